"""The closing summary of a copy: the ledger, what to look at, and what to do next."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    bar,
    counted,
    grouped,
    print_line,
    print_table,
    printable,
    styled,
)
from unified_storage_cli.progress import duration

if TYPE_CHECKING:
    from legacy.migration import CopyReport, Ledger
    from legacy.stores.parcels import Item

SHOWN_LINES = 10
OUTCOMES = (
    ("copied", GOOD, "written to the target"),
    ("equal", GOOD, "there already, nothing written"),
    ("duplicate", QUIET, "the same session once more, left out"),
    ("conflict", BAD, "changed, deleted or written by others in the target, left as it is"),
    ("quarantined", BAD, "cannot be read, left out"),
)
_TAKEN = ("copied", "equal")
_TO_LOOK_AT = ("conflict", "quarantined")
_SHOWN_WARNINGS = 4


@dataclass
class Remarks:
    """What the items of a report say beside the ledger.

    Attributes:
        shown: the first items that somebody has to look at.
        hidden: how many more of these there are.
        warnings: of sessions that were copied all the same: reason -> how many.
    """

    shown: list[Item] = field(default_factory=list)
    hidden: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


def needs_a_look(item: Item) -> bool:
    """Whether somebody has to look at *item*: it was not copied, or not read back as it was written."""
    return item.outcome in _TO_LOOK_AT or any(reason.startswith("mismatch:") for reason in item.reasons)


def remarks_of(done: CopyReport) -> Remarks:
    """One walk over the items, which may be many."""
    remarks = Remarks()
    for item in done.items:
        if needs_a_look(item):
            if len(remarks.shown) < SHOWN_LINES:
                remarks.shown.append(item)
            else:
                remarks.hidden += 1
        elif item.outcome in _TAKEN:
            remarks.warnings.update(item.reasons)
    return remarks


def print_copy(done: CopyReport, report: Path | None) -> None:
    """The summary of a copy; *report* is the file that says more."""
    remarks = remarks_of(done)
    would = "Dry run, nothing was written: " if done.dry_run else ""
    print_line(styled(f"{would}{printable(done.source)} -> {printable(done.target)}", "bold"))
    _print_ledger(done.ledger, done.dry_run)
    if done.others.read or done.others.ignored:
        print_line(f"  other records: {_in_words(done.others)}")
    for kind, times in sorted(done.lossy.items()):
        print_line(styled(f"  the target has no place for: {kind} ({grouped(times)})", WORTH_A_LOOK))
    _print_remarks(remarks, "the report" if report is not None else "--report FILE.html")
    _print_end(done, report)


def _print_ledger(ledger: Ledger, dry_run: bool) -> None:
    rows = [
        (
            name,
            styled(grouped(count), style if count else QUIET),
            bar(count, ledger.read, style=style),
            styled(said_of(name, meaning, dry_run=dry_run) if count else "", QUIET),
        )
        for name, style, meaning in OUTCOMES
        for count in (getattr(ledger, name),)
    ]
    print_table(rows, right=[1])
    beside = [f"{counted(ledger.read, 'session')} read"]
    if not dry_run:
        beside.append(f"{grouped(ledger.verified)} verified")
    if ledger.mismatched:
        beside.append(f"{grouped(ledger.mismatched)} MISMATCHED")
    if ledger.ignored:
        beside.append(f"{grouped(ledger.ignored)} ignored (no sessions)")
    print_line(styled("  = " + ", ".join(beside), BAD if ledger.mismatched else "bold"))


def said_of(name: str, meaning: str, *, dry_run: bool) -> str:
    """What an outcome means, also where nothing was written."""
    return "would be written to the target" if dry_run and name == "copied" else meaning


def _in_words(ledger: Ledger) -> str:
    counts = {name: count for name, count in ledger.to_dict().items() if count}
    return ", ".join(f"{grouped(count)} {name}" for name, count in counts.items())


def _print_remarks(remarks: Remarks, told_in: str) -> None:
    if remarks.shown:
        print_line(styled("To look at:", BAD))
        print_table([_row(item) for item in remarks.shown])
    if remarks.hidden:
        print_line(styled(f"  and {grouped(remarks.hidden)} more, in {told_in}", BAD))
    if remarks.warnings:
        print_line(styled(f"Taken with warnings: {_warnings(remarks.warnings, told_in)}", WORTH_A_LOOK))


def _warnings(warnings: Counter[str], told_in: str) -> str:
    shown = sorted(warnings.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_WARNINGS]
    told = ", ".join(f"{printable(reason)} ({grouped(times)})" for reason, times in shown)
    more = len(warnings) - len(shown)
    return f"{told}, and {grouped(more)} more kinds, in {told_in}" if more else told


def _row(item: Item) -> tuple[str, str, str]:
    reasons = ", ".join(item.reasons) + (f" ({item.detail})" if item.detail else "")
    return printable(item.outcome), printable(item.file or item.id or ""), printable(reasons)


def _print_end(done: CopyReport, report: Path | None) -> None:
    if done.source_timezone is not None:
        print_line(styled(f"Times without an offset were read in: {zone_shown(done.source_timezone)}", QUIET))
    if report is not None:
        print_line(f"Report: {printable(report)}")
    if done.exit_code == 0:
        print_line(styled(f"Done in {duration(done.seconds)}.", GOOD))
        return
    print_line(styled(f"Done in {duration(done.seconds)}, with something to look at. {_advice(done)}", WORTH_A_LOOK))


def zone_shown(zone: str) -> str:
    """The name of a zone, with this machine's own where it is the local one."""
    return f"{zone} ({'/'.join(dict.fromkeys(time.tzname))})" if zone == "local" else printable(zone)


def _advice(done: CopyReport) -> str:
    ledgers = (done.ledger, done.others)
    if any(ledger.mismatched for ledger in ledgers):
        return "What was read back is not what was written: do not rely on the target, and check its disk."
    if any(ledger.conflict for ledger in ledgers):
        return "--overwrite-conflicts takes the source's side of every conflict."
    return "Mend the quarantined files or leave them out, then run it again: it takes what is new."
