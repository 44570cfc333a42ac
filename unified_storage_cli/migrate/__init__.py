"""``unified-storage migrate``: moving the sessions of a running system, one command a step."""

from __future__ import annotations

import typer

from unified_storage_cli.migrate.advancing import advance, rollback
from unified_storage_cli.migrate.finishing import finish
from unified_storage_cli.migrate.planning import plan
from unified_storage_cli.migrate.repairing import repair
from unified_storage_cli.migrate.running import run
from unified_storage_cli.migrate.setting import set_
from unified_storage_cli.migrate.showing import status
from unified_storage_cli.migrate.verifying import verify

migrate = typer.Typer(
    help="Move the sessions of a running system from a legacy store into one of ours, and back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (plan, run, status, verify, repair, advance, rollback, finish):
    migrate.command()(command)
migrate.command("set")(set_)
