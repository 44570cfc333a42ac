"""Programs that read a store with the library that it is of, in a process of their own."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""The interpreter that has the libraries; see ``make bench``."""


def found_by(reader: str, module: str, *arguments: str, told: Any = None) -> Any:
    """What the program *reader* of this folder prints, read as JSON; skips where *module* is not installed.

    Args:
        told: what it finds on its input, as JSON.
    """
    if not _has(module):
        pytest.skip(f"{module} is not installed in .venv-bench; run `make bench`")
    program = ROOT / "tests" / "legacy" / "peers" / "readers" / reader
    ran = subprocess.run(
        [PYTHON, program, *arguments], input=json.dumps(told), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@cache
def _has(module: str) -> bool:
    return PYTHON.exists() and not subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode
