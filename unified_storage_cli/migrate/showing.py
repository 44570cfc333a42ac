"""``migrate status``: where a migration is, once or again and again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson, report_file
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, SHADOW_READS, PlanFile, ShadowReads, with_stores
from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    Cell,
    console,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)
from unified_storage_cli.progress import duration

if TYPE_CHECKING:
    from rich.text import Text

    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from unified_storage.interface import IUnifiedStorage

_EVERY = 1.0
_LEDGER = ("copied", "equal", "tombstoned", "conflict", "quarantined", "duplicate")


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, every second, until interrupted.")] = False,
    members: Annotated[bool, typer.Option("--members", help="Every program that takes part.")] = False,
    intents: Annotated[bool, typer.Option("--intents", help="The sessions with a write left unfinished.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="The sessions in quarantine, in conflict, or suspect.")
    ] = False,
    report: Annotated[
        Any, typer.Option(metavar="FILE.json|.html", parser=report_file, help="Write everything to FILE.")
    ] = None,
    shadow_reads: ShadowReads = SHADOW_READS,
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Where the migration is, what holds it up, and what comes next."""
    parts = [
        name for name, wanted in (("members", members), ("intents", intents), ("quarantine", quarantine)) if wanted
    ]

    async def work(storage: IUnifiedStorage, _: LegacySide, __: Plan) -> dict[str, Any]:
        import asyncio

        from legacy.migration.live.status import status as asked

        facts = await asked(storage, shadow_reads=shadow_reads)
        while watch:
            _show(facts, parts, as_json=as_json, again=True)
            await asyncio.sleep(_EVERY)
            facts = await asked(storage, shadow_reads=shadow_reads)
        return facts

    facts = with_stores(plan, work)
    if report is not None:
        _write(facts, report)
    _show(facts, parts, as_json=as_json, again=False)


def _show(facts: dict[str, Any], parts: list[str], *, as_json: bool, again: bool) -> None:
    if as_json:
        print_json(facts, on_one_line=again)
        return
    if again and console(sys.stdout).is_terminal:
        console(sys.stdout).clear()
    for line in lines_of(facts):
        print_line(line)
    for part in parts:
        _PARTS[part](facts)
    if again and not console(sys.stdout).is_terminal:
        print_line()


def _write(facts: dict[str, Any], file: Path) -> None:
    if file.suffix.lower() == ".json":
        file.write_text(json.dumps(facts, indent=2) + "\n", "ascii")
        return
    from unified_storage_cli.migrate.html_report import page_of

    file.write_text(page_of(facts), "utf-8")


# the lines


def lines_of(facts: dict[str, Any]) -> list[Cell]:
    """The state of a migration in a few lines."""
    return [_phase(facts), *_copying(facts["pass"]), _open(facts), _state(facts), *_following(facts)]


def _phase(facts: dict[str, Any]) -> Text:
    members = facts["members"]
    settled = f"(settled {members['acknowledged']}/{members['total']})"
    from legacy.migration.live.phases import phase_named

    number = int(phase_named(facts["phase"]))
    line = styled(f"phase {number} {facts['phase']} ", "bold")
    line += styled(settled, GOOD if facts["settled"] else WORTH_A_LOOK)
    if facts["pass"]["number"]:
        counts = "started after settled" if facts["pass"]["counts"] or facts["pass"]["valid"] else "void"
        line += styled(f"   pass {facts['pass']['number']} {counts}")
    return line


def _copying(state: dict[str, Any]) -> list[Cell]:
    if not state["number"]:
        return []
    done, total, ledger = state["done"], state["total"], state["ledger"]
    share = 100 * done / total if total else 100.0
    told = f"copy {grouped(done)}/{grouped(total)} {share:.1f} %"
    if not state["complete"]:
        told += f"  {grouped(round(state['rate']))}/s" if state["rate"] is not None else ""
        told += f"  ETA {duration(state['eta'])}" if state["eta"] is not None and share >= 1 else ""
    line = styled(told, GOOD if state["complete"] else "cyan")
    rest = [f"{name} {grouped(ledger[name])}" for name in _LEDGER if ledger[name]]
    return [line + styled("   " + "  ".join([*rest, f"retried {grouped(ledger['retried'])}"]))]


def _open(facts: dict[str, Any]) -> Text:
    intents, journals, suspect, shadow = facts["intents"], facts["journals"], facts["suspect"], facts["shadow"]
    bad = intents["open"] or journals or suspect or shadow["different"]
    shown = f"{grouped(shadow['compared'])} compared, {grouped(shadow['different'])} different"
    told = (
        f"intents {grouped(intents['in_flight'])} in flight, {grouped(intents['open'])} open   "
        f"journals {len(journals)}   suspect {len(suspect)}   shadow {shown if shadow['compared'] else '-'}"
    )
    return styled(told, BAD if bad else "")


def _state(facts: dict[str, Any]) -> Text:
    if facts["frozen"]:
        return styled("state: writes are held back", WORTH_A_LOOK)
    if not facts["runner"]:
        is_over = facts["phase"] == "unified_only" and facts["settled"]
        told = "over" if is_over else "nobody copies or recovers: unified-storage migrate run"
        return styled(f"state: {told}", GOOD if is_over else BAD)
    return styled(f"state: {facts['throttled'] or 'running'}", WORTH_A_LOOK if facts["throttled"] else GOOD)


def _following(facts: dict[str, Any]) -> list[Cell]:
    coming = facts["next"]
    if coming is None:
        return []
    if not coming["reasons"]:
        return [styled(f"next: advance to {coming['phase']} is possible", GOOD)]
    first, *more = [printable(reason) for reason in coming["reasons"]]
    lines: list[Cell] = [styled(f"next: advance to {coming['phase']} is REFUSED: {first}", WORTH_A_LOOK)]
    return lines + [styled(f"      and: {reason}", WORTH_A_LOOK) for reason in more]


# more


def _print_members(facts: dict[str, Any]) -> None:
    rows: list[tuple[Cell, ...]] = [
        (
            printable(one["member"]),
            printable(one["process"]),
            printable(one["phase"] or "joining"),
            styled("acknowledged", GOOD) if one["acknowledged"] else styled("late", WORTH_A_LOOK),
            styled("ended", BAD) if one["ended"] else "",
            styled(f"evicted ({one['evicted']})", BAD) if one["evicted"] else "",
            "" if one["journal_empty"] else styled("journal", WORTH_A_LOOK),
            styled(f"{one['open_writes']} open", WORTH_A_LOOK) if one["open_writes"] else "",
        )
        for one in facts["members"]["each"]
    ]
    if rows:
        print_table(rows)
    else:
        print_line(styled("  no program takes part", QUIET))


def _print_intents(facts: dict[str, Any]) -> None:
    for id in facts["intents"]["ids"]:
        print_line(f"  open write: {printable(id)}")


def _print_quarantine(facts: dict[str, Any]) -> None:
    for name in ("conflict", "quarantined"):
        for one in facts[name]["sessions"]:
            print_line(f"  {name}: {printable(one['id'])} ({printable(one['reason'] or '')})")
        if (more := facts[name]["total"] - len(facts[name]["sessions"])) > 0:
            print_line(styled(f"  and {grouped(more)} more {name}", QUIET))
    for id in facts["suspect"]:
        print_line(f"  suspect: {printable(id)}")


_PARTS = {"members": _print_members, "intents": _print_intents, "quarantine": _print_quarantine}
