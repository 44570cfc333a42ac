"""Running the command line inside this process, or as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPOSITORY
from unified_storage_cli import main

SESSIONS = REPOSITORY / "examples" / "sessions"
DAMAGED = REPOSITORY / "examples" / "damaged_sessions"
PROGRAM = Path(sys.executable).with_name("unified-storage")


@dataclass(frozen=True)
class Ran:
    """What a command gave: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        facts: dict[str, Any] = json.loads(self.out)
        return facts


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run a command in this process."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    written = capsys.readouterr()
    return Ran(code, written.out, written.err)


def run_program(*arguments: object, **environment: str) -> Ran:
    """Run a command as a program of its own, without a terminal."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | environment,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def new_session(id: str, text: str = "Hello") -> dict[str, Any]:
    """A small session document of the old kind."""
    times = dict.fromkeys(("created_at", "updated_at"), "2024-05-01T10:00:00+00:00")
    return {
        "metadata": {"session_id": id, "status": "active", **times},
        "thread_configs": {},
        "workflow_state": {"messages": [{"type": "HumanMessage", "content": text, "additional_kwargs": {}}]},
        "settings": {},
    }


def write_session(folder: Path, id: str, text: str = "Hello", *, name: str | None = None) -> Path:
    """A session's file in *folder*, which is made when it is not there."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{id if name is None else name}.json"
    file.write_text(json.dumps(new_session(id, text)), "utf-8")
    return file
