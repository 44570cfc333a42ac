"""``migrate advance`` and ``migrate rollback``: the phase one step on, or back, where nothing speaks against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, SHADOW_READS, PlanFile, ShadowReads, with_stores
from unified_storage_cli.output import BAD, GOOD, print_json, print_line, printable, styled

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.phases import Phase
    from legacy.migration.live.plan import Plan
    from unified_storage.interface import IUnifiedStorage

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what speaks against it.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="For everybody to acknowledge it.")]


def advance(
    to: Annotated[
        str | None, typer.Option("--to", metavar="PHASE", help="Its name or number. [default: the next one]")
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help="Hold writes back until everybody has followed, so long at most."),
    ] = None,
    shadow_reads: ShadowReads = SHADOW_READS,
    wait: Wait = 30.0,
    dry_run: DryRun = False,
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Go one phase on. A refusal changes nothing, says every reason, and ends with exit code 2.

    Nobody has to stop writing for it. --freeze holds writes back for a moment, so that no two programs see different
    stores at any time.
    """
    seconds = None if freeze is None else float(freeze.removesuffix("s"))

    async def work(storage: IUnifiedStorage, legacy: LegacySide, _: Plan) -> dict[str, Any]:
        phase = await _wanted(storage, to, 1)
        return await _changed(storage, legacy, phase, seconds, shadow_reads, wait, dry_run=dry_run)

    _tell(with_stores(plan, work), as_json)


def rollback(
    wait: Wait = 30.0, dry_run: DryRun = False, plan: PlanFile = DEFAULT_PLAN, as_json: AsJson = False
) -> None:
    """Go one phase back. Nothing that was acknowledged is lost; from unified_only there is no way back."""

    async def work(storage: IUnifiedStorage, legacy: LegacySide, _: Plan) -> dict[str, Any]:
        phase = await _wanted(storage, None, -1)
        return await _changed(storage, legacy, phase, None, 0, wait, dry_run=dry_run)

    _tell(with_stores(plan, work), as_json)


async def _wanted(storage: IUnifiedStorage, to: str | None, by: int) -> Phase:
    from legacy.migration.live.failures import GateRefusedError
    from legacy.migration.live.phases import Phase, phase_named
    from legacy.migration.live.state import migration_in

    if to is not None:
        try:
            return phase_named(to)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    phase = (await migration_in(storage)).phase
    if phase + by not in [*Phase] or phase == Phase.UNIFIED_ONLY:
        told = f"there is no phase {'behind' if by > 0 else 'to go back to from'} {phase.name_shown}"
        raise GateRefusedError(told, details={"phase": phase.name_shown, "reasons": [told]})
    return Phase(phase + by)


async def _changed(
    storage: IUnifiedStorage,
    legacy: LegacySide,
    to: Phase,
    freeze: float | None,
    shadow_reads: int,
    wait: float,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    from legacy.migration.live.gates import reasons_against
    from legacy.migration.live.phases import Phase
    from legacy.migration.live.state import migration_in
    from legacy.migration.live.switching import probe, refused, settled, switch, switch_frozen

    migration = await migration_in(storage)
    before = migration.phase.name_shown
    begins = (migration.phase, to) == (Phase.LEGACY_ONLY, Phase.DUAL_WRITE)
    if dry_run:
        reasons = await reasons_against(storage, migration, to, shadow_reads=shadow_reads)
        return {
            "from": before,
            "to": to.name_shown,
            "dry_run": True,
            "reasons": reasons,
            "steps": _steps(to, freeze, begins),
        }
    if begins and (against := await probe(legacy)):
        raise refused(migration.phase, to, against)
    if freeze is None:
        await switch(storage, to, shadow_reads=shadow_reads)
    else:
        await switch_frozen(storage, to, seconds=freeze, shadow_reads=shadow_reads)
    return {"from": before, "to": to.name_shown, "dry_run": False, "settled": await settled(storage, timeout=wait)}


def _steps(to: Phase, freeze: float | None, begins: bool) -> list[str]:
    steps = ["write, read and delete a session in the legacy store, to try it"] if begins else []
    if freeze is not None:
        steps += [f"hold writes back, {freeze:g} s at most, until everybody has seen it"]
    steps += [f"write the phase {to.name_shown} into the target, if nothing speaks against it in that moment"]
    steps += ["wait until every program has acknowledged it"]
    return steps + (["let writes through again"] if freeze is not None else [])


def _tell(facts: dict[str, Any], as_json: bool) -> None:
    refused = bool(facts.get("reasons"))
    code = 2 if refused else 0
    if as_json:
        print_json(facts | {"exit_code": code})
    elif facts["dry_run"]:
        _print_dry(facts)
    else:
        followed = (
            "every program has acknowledged it" if facts["settled"] else "not every program has acknowledged it yet"
        )
        print_line(styled(f"{facts['from']} -> {facts['to']}: {followed}.", GOOD))
    raise typer.Exit(code)


def _print_dry(facts: dict[str, Any]) -> None:
    print_line(styled(f"Dry run: {facts['from']} -> {facts['to']} would", "bold"))
    for number, step in enumerate(facts["steps"], 1):
        print_line(f"  {number}. {step}")
    for reason in facts["reasons"]:
        print_line(styled(f"  refused now: {printable(reason)}", BAD))
    if not facts["reasons"]:
        print_line(styled("Nothing speaks against it.", GOOD))
