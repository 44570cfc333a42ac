"""``unified-storage doctor``: what a store is, what is wrong with it, and mending that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from unified_storage_cli.arguments import AnyPlace, AsJson
from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    counted,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)

if TYPE_CHECKING:
    from legacy.migration import DoctorReport

SHOWN_LINES = 50


def doctor(
    url: AnyPlace,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look one of our stores over, and mend it where asked.

    It says what the store is, its schema, and what is wrong.
    Every record and log is read. The exit code is 3 when something is wrong and was not mended.
    """
    from legacy.migration import examine

    report = asyncio.run(examine(url, mend=repair))
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def _print(report: DoctorReport) -> None:
    print_line(styled(printable(report.place), "bold"))
    print_table([(styled(name, QUIET), printable(value)) for name, value in report.health.items()])
    print_line(f"  {counted(report.records, 'record')} looked at")
    if not report.findings:
        print_line(styled("Nothing is wrong.", GOOD))
        return
    print_line(styled("What is wrong:", BAD))
    print_table(
        [
            (
                styled(finding.kind, "yellow" if finding.repairable else "red"),
                finding.type,
                printable(finding.id),
                styled(printable(finding.detail or ""), QUIET),
            )
            for finding in report.findings[:SHOWN_LINES]
        ]
    )
    if len(report.findings) > SHOWN_LINES:
        print_line(styled(f"  and {grouped(len(report.findings) - SHOWN_LINES)} more, in --json", BAD))
    _print_end(report)


def _print_end(report: DoctorReport) -> None:
    left = len(report.findings) - report.repaired
    mendable = sum(finding.repairable for finding in report.findings) - report.repaired
    if report.repaired:
        print_line(styled(f"{counted(report.repaired, 'finding')} mended.", GOOD))
    if mendable > 0:
        print_line(styled(f"--repair mends {grouped(mendable)} of them.", WORTH_A_LOOK))
    if left > max(mendable, 0):
        told = "Nothing here can mend the others: take those records from a backup or from their source."
        print_line(styled(told, WORTH_A_LOOK))
