"""``unified-storage copy``: every session of one place into another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import (
    AsJson,
    Names,
    Quiet,
    SourcePlace,
    TargetPlace,
    parsed_rate,
    parsed_seconds,
    report_file,
)
from unified_storage_cli.copy_summary import print_copy
from unified_storage_cli.progress import shown_progress

if TYPE_CHECKING:
    from legacy.migration import CopyReport, Following
    from legacy.stores.parcels import Item

UNREMARKABLE = ("copied", "equal")


def copy(
    source: SourcePlace,
    target: TargetPlace,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide on everything and write nothing.")] = False,
    max_rate: Annotated[
        Any, typer.Option(metavar="N/s", parser=parsed_rate, help="Copy at most N records a second.")
    ] = None,
    overwrite_conflicts: Annotated[
        bool,
        typer.Option("--overwrite-conflicts", help="Write over what others wrote, changed or deleted in TARGET."),
    ] = False,
    names: Names = None,
    source_timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Zone of times without an offset, such as Europe/Berlin. [default: local]"),
    ] = None,
    convert: Annotated[
        str | None, typer.Option(metavar="session-data", help="Turn older session files into SessionData documents.")
    ] = None,
    follow: Annotated[
        Any,
        typer.Option(
            metavar="SECONDS",
            parser=parsed_seconds,
            help="Go on copying what changes in SOURCE, by a pass every SECONDS, until stopped; 0 makes one pass.",
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="With --follow: delete in TARGET what SOURCE has no more.")
    ] = False,
    max_delete: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="So many are meant to vanish at once. [default: 1 %, and 100 at most]"),
    ] = None,
    report: Annotated[
        Any,
        typer.Option(
            metavar="FILE.json|.html", parser=report_file, help="Write what became of each file or record to FILE."
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Copy every session of SOURCE into TARGET.

    Between two of our stores it copies everything else too. Streamed, verified record by record, and safe to run
    again: after an interruption it goes on where it stopped, and what is there already is found equal. Nothing is
    deleted, and nothing in SOURCE is changed. What cannot be read is quarantined with a reason, what was changed in
    TARGET is a conflict and stays as it is; the exit code is 3 then.

    With --follow a store that its own framework is writing is kept in step, one way: TARGET is equal at the last quiet
    pass. Ctrl-C ends it after the running step, with exit code 0 when the last pass was quiet, else 130.
    """
    import asyncio

    from legacy.migration import Following, copy_store

    if follow is not None:
        if dry_run or names:
            raise typer.BadParameter("--dry-run and --map are for a copy that is made once, without --follow")
        how = Following(
            follow, delete, max_delete, max_rate, overwrite_conflicts, source_timezone=source_timezone, convert=convert
        )
        raise typer.Exit(_kept_in_step(source, target, how, report, as_json=as_json, quiet=quiet))
    if delete or max_delete is not None:
        raise typer.BadParameter("--delete and --max-delete are for --follow: a copy deletes nothing by itself")
    with shown_progress(quiet=quiet or as_json) as on_progress:
        done = asyncio.run(
            copy_store(
                source,
                target,
                dry_run=dry_run,
                max_rate=max_rate,
                overwrite_conflicts=overwrite_conflicts,
                mapping=names,
                source_timezone=source_timezone,
                convert=convert,
                on_progress=on_progress,
            )
        )
    with closing(done):
        if report is not None:
            _write_report(done, report)
        if as_json:
            done.write_json_to(sys.stdout, _remarkable(done))
        else:
            print_copy(done, report)
        raise typer.Exit(done.exit_code)


def _kept_in_step(source: str, target: str, how: Following, report: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Follow *source* until stopped; the exit code."""
    from unified_storage_cli.follow import followed, print_follow, print_follow_json

    with closing(followed(source, target, how, as_json=as_json, quiet=quiet)) as done:
        if report is not None:
            _write_report(done.copy, report)
        if as_json:
            print_follow_json(done, _remarkable(done.copy))
        else:
            print_follow(done, report)
        return done.exit_code


def _write_report(done: CopyReport, file: Path) -> None:
    if file.suffix.lower() == ".json":
        done.write_json(file)
        return
    from unified_storage_cli.html_report import write_html

    write_html(done, file)


def _remarkable(done: CopyReport) -> Iterator[Item]:
    """The items somebody may want to look at, warnings among them; all of them stand in a report file."""
    for item in done.items:
        if item.outcome not in UNREMARKABLE or item.reasons:
            yield item
