"""Session documents to test with: a written sample of every format, and generated ones that mix them all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from session_adapter.formats import BARE, CANONICAL, G0, G1, G2, G3

SAMPLES = Path(__file__).parent.parent / "samples" / "legacy_files"
SAMPLE_FORMATS = {"g0": G0, "g1": G1, "g2": G2, "g3": G3, "bare": BARE, "canonical": CANONICAL}

_WORDS = """
    metadata session_id state workflow_state messages interactions context settings user_id thread_configs
    workflow_summary workflow_config created_at updated_at name summary x
"""
KEYS = st.sampled_from(_WORDS.split())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
LEAVES |= st.sampled_from(["2024-05-15T16:37:00", "2024-05-15T16:37:00.5Z", 1715803200, "active"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=15
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=8)


def sample(name: str) -> dict[str, Any]:
    """A fresh copy of the sample called *name*, a key of SAMPLE_FORMATS."""
    loaded: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return loaded
