"""Programs that read a store with the library that it is of, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.engines import SERVERS, required
from tests.support import REPOSITORY

PYTHON = Path(os.environ.get("UNIFIED_STORAGE_PEERS_PYTHON") or REPOSITORY / ".venv-bench" / "bin" / "python")
"""The interpreter that has the libraries; see ``make bench``."""
_READERS = REPOSITORY / "tests" / "legacy" / "peers" / "readers"


def found_by(reader: str, module: str, *arguments: str, told: Any = None) -> Any:
    """What the program *reader* of this folder prints, read as JSON.

    Args:
        module: the library; see :func:`need`.
        told: what it finds on its input, as JSON.
    """
    need(module)
    program: list[str | Path] = [PYTHON, _READERS / reader, *arguments]
    ran = subprocess.run(program, input=json.dumps(told), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def need(module: str) -> None:
    """Skip the test where *module* is not installed; fail it where REQUIRE_ENGINES wants everything."""
    if _has(module):
        return
    reason = f"{PYTHON} has no {module}; `make bench` installs it"
    if required() >= SERVERS.keys():
        pytest.fail(f"REQUIRE_ENGINES wants all, and {reason}", pytrace=False)
    pytest.skip(reason)


@cache
def _has(module: str) -> bool:
    return PYTHON.exists() and not subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode
