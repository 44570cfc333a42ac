"""Help and version: complete, quick, and without loading what only the work needs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.cli.running import PROGRAM, run

COMMANDS = ("copy", "verify", "inspect", "formats", "doctor", "shadow")
HEAVY = ("asyncio", "sqlalchemy", "msgspec", "sqlite3", "unified_storage", "legacy", "session_adapter")


def test_help_names_every_command_and_the_exit_codes(capsys):
    done = run(capsys, "--help")
    assert done.code == 0
    for name in (*COMMANDS, "--version", "130"):
        assert name in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(capsys, command):
    done = run(capsys, command, "--help")
    assert done.code == 0
    assert "--json" in done.out


def test_the_version_is_that_of_the_distribution(capsys):
    from importlib.metadata import version

    assert run(capsys, "--version").out == f"unified-storage {version('unified-storage')}\n"


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], (*HEAVY, "pydantic")),
        (["--version"], (*HEAVY, "pydantic")),
        (["copy", "--help"], HEAVY),  # where typer converts defaults, it may ask pydantic
    ],
)
def test_help_loads_nothing_that_only_the_work_needs(arguments, heavy):
    program = (
        "import sys; from unified_storage_cli import main; main(sys.argv[1:]);"
        f"print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=30)
    assert done.stderr == "[]\n"


def test_help_takes_less_than_half_a_second():
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([PROGRAM, "--help"], capture_output=True, check=True, timeout=30)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # time on the processor: what others do on this machine does not count
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.5
