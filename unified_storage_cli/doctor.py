"""``unified-storage doctor``: what a store is, what is wrong with it, and mending that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
    from legacy.migration import DoctorReport, Finding

SHOWN_LINES = 50


def doctor(
    url: AnyPlace,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look one of our stores over, and mend it where asked.

    It says what the store is, its schema, and what is wrong.
    What the store keeps for itself (keys, indexes, which log is whose) is looked at, and every record and log is read.
    Others may use the store meanwhile. The exit code is 3 when something is wrong and was not mended.
    """
    import asyncio

    from legacy.migration import examine

    report = asyncio.run(examine(url, mend=repair))
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def _print(report: DoctorReport) -> None:
    print_line(styled(printable(report.place), "bold"))
    print_table([(styled(name, QUIET), printable(value)) for name, value in _facts(report).items()])
    if not report.findings:
        print_line(styled("Nothing is wrong.", GOOD))
        return
    is_mended = report.repaired == len(report.findings)
    print_line(styled("What was wrong:", GOOD) if is_mended else styled("What is wrong:", BAD))
    print_table(
        [
            (
                styled(finding.kind, _style(finding)),
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


def _facts(report: DoctorReport) -> dict[str, Any]:
    """What the store is, the most telling first."""
    health = {**report.health}
    engine = " ".join(str(health.pop(name)) for name in ("backend", "version") if name in health)
    known: dict[str, Any] = {name: health.pop(name) for name in ("schema", "durability") if name in health}
    return {"engine": engine, **known, "records": grouped(report.records), **health}


def _style(finding: Finding) -> str:
    if finding.repaired:
        return GOOD
    return WORTH_A_LOOK if finding.repairable else "red"


def _print_end(report: DoctorReport) -> None:
    left = len(report.findings) - report.repaired
    mendable = sum(finding.repairable and not finding.repaired for finding in report.findings)
    if report.repaired:
        print_line(styled(f"{counted(report.repaired, 'finding')} mended.", GOOD))
    if mendable:
        print_line(styled(f"--repair mends {grouped(mendable)} of them.", WORTH_A_LOOK))
    if left > mendable:
        told = "Nothing here can mend the others: take those records from a backup or from their source."
        print_line(styled(told, WORTH_A_LOOK))
