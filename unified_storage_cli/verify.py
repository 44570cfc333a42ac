"""``unified-storage verify``: is every session of one place in another?"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson, ComparedPlace, Names, Quiet, SourcePlace, parsed_percent
from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    bar,
    counted,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)
from unified_storage_cli.progress import duration, shown_progress

if TYPE_CHECKING:
    from legacy.migration import VerifyReport

SHOWN_LINES = 50
_COLOURS = {"missing": "red", "different": "yellow"}


def verify(
    source: SourcePlace,
    target: ComparedPlace,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on behind this record id, the last_id of an earlier run.")
    ] = None,
    sample: Annotated[
        Any, typer.Option(metavar="PCT", parser=parsed_percent, help="Compare this percentage, the same each time.")
    ] = 100.0,
    names: Names = None,
    source_timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="What copy was told. [default: what TARGET remembers, or local]")
    ] = None,
    convert: Annotated[
        str | None,
        typer.Option(metavar="session-data", help="What copy was told. [default: what TARGET remembers]"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare every session of SOURCE with TARGET.

    Nothing is written. SOURCE is read as the copy was told to read it: a store of ours remembers that, for an archive,
    a folder or the store of another framework say it again.
    The exit code is 3 when a session is missing or differs.
    """
    import asyncio

    from legacy.migration import verify_stores

    with shown_progress(quiet=quiet or as_json) as on_progress:
        done = asyncio.run(
            verify_stores(
                source,
                target,
                resume=resume,
                sample=float(sample),
                mapping=names,
                source_timezone=source_timezone,
                convert=convert,
                on_progress=on_progress,
            )
        )
    with closing(done):
        if as_json:
            print_json(done.to_dict())
        else:
            _print(done)
        raise typer.Exit(done.exit_code)


def _print(done: VerifyReport) -> None:
    print_line(styled(f"{printable(done.source)} = {printable(done.target)}?", "bold"))
    rows = [
        ("equal", done.equal, GOOD, ""),
        ("different", done.different, BAD, "there, with other contents"),
        ("missing", done.missing, BAD, "not in the target"),
    ]
    print_table(
        [
            (
                name,
                styled(grouped(count), style if count else QUIET),
                bar(count, done.compared, style=style),
                styled(meaning if count else "", QUIET),
            )
            for name, count, style, meaning in rows
        ],
        right=[1],
    )
    print_line(styled(f"  = {counted(done.compared, 'record')} compared", "bold"))
    _print_beside(done)
    _print_differences(done)
    if done.exit_code == 0:
        print_line(styled(f"The same, in {duration(done.seconds)}.", GOOD))
    else:
        print_line(styled(f"Not the same, in {duration(done.seconds)}. unified-storage copy says why, and mends", BAD))


def _print_beside(done: VerifyReport) -> None:
    if done.not_compared:
        told = "of the source that no copy takes: quarantined, doubled or without a place there"
        print_line(styled(f"  {counted(done.not_compared, 'record')} {told}", QUIET))
    if done.only_in_target:
        print_line(styled(f"  {counted(done.only_in_target, 'record')} only in the target", QUIET))


def _print_differences(done: VerifyReport) -> None:
    total = done.different + done.missing
    if not total:
        return
    print_line(styled("Differences:", BAD))
    shown = islice(done.differences, SHOWN_LINES)
    print_table(
        [
            (
                styled(item.outcome, _COLOURS[item.outcome]),
                printable(item.id or ""),
                "" if item.outcome == "missing" else styled(printable(", ".join(item.reasons)), "cyan"),
                styled(printable(item.file or ""), QUIET),
            )
            for item in shown
        ]
    )
    if total > SHOWN_LINES:
        print_line(styled(f"  and {grouped(total - SHOWN_LINES)} more, in --json", BAD))
