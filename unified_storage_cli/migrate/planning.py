"""``migrate plan``: looking at both stores, and changing neither."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.output import (
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)

if TYPE_CHECKING:
    from legacy.migration.live.plan import Plan


def plan(
    source: Annotated[
        str,
        typer.Option(
            metavar="URL", help="legacy+file:///folder, or python:MODULE:FACTORY, which makes an ISessionStore."
        ),
    ],
    target: Annotated[str, typer.Option(metavar="URL", help="One of our stores; not a Redis Cluster.")],
    source_timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone of times without an offset. [default: this machine's]")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the plan is kept.")] = Path(
        "plan.json"
    ),
    as_json: AsJson = False,
) -> None:
    """Look at both stores and write down what is to be done; nothing is written to either.

    The plan may hold a password, and nobody else can read its file.
    """
    import asyncio

    from legacy.migration.live.plan import made_plan

    made = asyncio.run(made_plan(source, target, source_timezone=source_timezone))
    made.write(output)
    if as_json:
        print_json(_facts(made, output))
    else:
        _print(made, output)


def _facts(made: Plan, output: Path) -> dict[str, Any]:
    from unified_storage.errors import redacted

    return {
        "plan": str(output),
        "hash": made.hash,
        "source": redacted(made.source),
        "target": redacted(made.target),
        "source_timezone": made.source_timezone,
        **made.found,
        "notes": list(made.notes),
    }


def _print(made: Plan, output: Path) -> None:
    facts = _facts(made, output)
    print_line(styled(f"{printable(facts['source'])} -> {printable(facts['target'])}", "bold"))
    rows: list[tuple[str, str]] = [("sessions", grouped(facts["sessions"])), ("bytes", grouped(facts["bytes"]))]
    rows += [(f"as {name}", grouped(count)) for name, count in facts["formats"].items()]
    rows += [("in the target already", grouped(facts["in_target"]))]
    print_table(rows, right=[1])
    print_line(styled(f"  kind of source: {facts['kind']}", QUIET))
    for note in facts["notes"]:
        print_line(styled(f"  ! {printable(note)}", WORTH_A_LOOK))
    print_line(styled(f"Written to {printable(output)}. Next: unified-storage migrate run {printable(output)}", GOOD))
