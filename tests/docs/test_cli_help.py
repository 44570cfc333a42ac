"""The reference of the command line is what the commands say of themselves."""

from __future__ import annotations

import importlib.util
from typing import Any

from tests.support import REPOSITORY
from unified_storage_cli.app import app


def _writer() -> Any:
    spec = importlib.util.spec_from_file_location("writer", REPOSITORY / "scripts" / "write_cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_generated_help():
    writer = _writer()
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.with_generated(page), "run: .venv/bin/python scripts/write_cli_reference.py"


def test_the_reference_has_every_command():
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    assert commands == set(_writer().COMMANDS)
