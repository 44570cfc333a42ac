"""The reference of the command line is what the commands say of themselves."""

from __future__ import annotations

import importlib.util
from typing import Any

import typer

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
    commands = {*names_in(app)}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands |= {f"{group.name} {name}" for name in names_in(group.typer_instance)}
    assert commands == {*_writer().COMMANDS}


def names_in(program: typer.Typer) -> list[str]:
    """What the commands of *program* are called."""
    found = [command for command in program.registered_commands if command.callback is not None]
    return [str(command.name or getattr(command.callback, "__name__", "")) for command in found]
