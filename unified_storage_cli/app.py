"""The commands, and the way in: ``main`` parses, has a command run, and returns its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from unified_storage_cli.copy import copy
from unified_storage_cli.doctor import doctor
from unified_storage_cli.errors import told
from unified_storage_cli.formats import formats
from unified_storage_cli.inspect import inspect
from unified_storage_cli.migrate import migrate
from unified_storage_cli.output import prepare_streams
from unified_storage_cli.serve import serve
from unified_storage_cli.shadow import shadow
from unified_storage_cli.verify import verify

PROGRAM = "unified-storage"
EXIT_CODES = """
Exit codes: 0 done; 1 usage; 2 a change of phase was refused; 3 done, and something is to be looked at;
4 a store failed, run it again; 5 another run is writing there; 6 a guard stopped it; 130 interrupted, run it again.
"""

app = typer.Typer(
    name=PROGRAM,
    help="Copy agent and chat sessions between stores, verify the copies, look into the stores, and serve them.",
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help takes half the time, and is what the reference shows
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(migrate, name="migrate")
for command in (copy, verify, inspect, formats, doctor, serve, shadow):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before a command's name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, sys.argv unless *arguments* are given, and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    command = typer.main.get_command(app)
    return told(lambda: command.main(given, PROGRAM, standalone_mode=False), given)
