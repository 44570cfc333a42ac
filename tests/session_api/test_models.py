"""What the interface's description says of answers is what AgentOS answers, field by field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from session_api.models import RunPreview, SessionDetail, SessionPage, ShownRun
from tests.contract import contract

_DOCUMENTED: tuple[tuple[str, TypeAdapter[Any]], ...] = (
    (r"/sessions/[^/]+/runs/[^/]+", TypeAdapter(ShownRun)),
    (r"/sessions/[^/]+/runs", TypeAdapter(list[ShownRun])),
    (r"/sessions/[^/]+/run-previews", TypeAdapter(list[RunPreview])),
    (r"/sessions/[^/]+(/rename)?", TypeAdapter(SessionDetail)),
    (r"/sessions/?", TypeAdapter(SessionPage | SessionDetail)),
)
_CUT = "$long"
"""What stands in the recordings for long texts."""


def recorded() -> list[Any]:
    """Every recorded answer of a session route that went well: its path, and its body."""
    golden = json.loads((Path(contract.__file__).parent / "golden.json").read_text("utf-8"))
    steps = [step for scenario in golden["scenarios"].values() for step in scenario["steps"]]
    found = [(step["request"]["path"].partition("?")[0], step["response"]) for step in steps]
    return [
        (path, answer["body"])
        for path, answer in found
        if path.startswith("/sessions") and answer["status"] < 300 and answer["body"] is not None
    ]


@pytest.mark.parametrize(("pattern", "model"), _DOCUMENTED, ids=[pattern for pattern, _ in _DOCUMENTED])
def test_recorded_answers_have_the_documented_fields(pattern: str, model: TypeAdapter[Any]):
    """S4.9: no field is unknown, and none has another type."""
    bodies = [body for path, body in recorded() if re.fullmatch(pattern, path) and _CUT not in json.dumps(body)]
    assert bodies
    for body in bodies:
        model.validate_python(body)
