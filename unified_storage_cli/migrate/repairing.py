"""``migrate repair``: what an operator asks for by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, PlanFile, confirmed, with_stores
from unified_storage_cli.output import BAD, GOOD, WORTH_A_LOOK, counted, print_json, print_line, printable, styled

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from legacy.migration.live.repairing import Repaired
    from unified_storage.interface import IUnifiedStorage

_UNPROVEN = (
    "{0!r} is not known to have ended. It is refused when it writes again; nothing that was acknowledged is lost, but\n"
    "a value that somebody saw of what it was writing may not be seen any more."
)


def repair(
    verification: Annotated[
        str | None, typer.Option("--from", metavar="ID", help="What this verification found different.")
    ] = None,
    intents: Annotated[bool, typer.Option("--intents", help="End the writes that programs left unfinished.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Try what is in quarantine, and conflicts, once more.")
    ] = False,
    accept: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Let the conflicts and quarantined sessions of these ids, a line each, be."),
    ] = None,
    evict: Annotated[str | None, typer.Option(metavar="MEMBER", help="Send this program away.")] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its journal, drained first: the pass then stays valid.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --evict: do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Bring sessions to what counts in this phase, accept what stays odd, send programs away.

    What others wrote in the target is kept in a record of its own before it is written over.
    """
    if not (verification or intents or quarantine or accept or evict):
        raise typer.BadParameter("say what is to be repaired: --from, --intents, --quarantine, --accept or --evict")

    async def work(storage: IUnifiedStorage, legacy: LegacySide, made: Plan) -> dict[str, Any]:
        from legacy.migration.live import repairing

        facts: dict[str, Any] = {"dry_run": dry_run}
        ids = _ids_of(plan, verification) if verification else []
        ids += await repairing.odd_ids(storage) if quarantine else []
        if evict:
            facts["evicted"] = await _evict(storage, legacy, made, evict, journal, yes=yes, dry_run=dry_run)
        if accept:
            wanted = [line.strip() for line in accept.read_text("utf-8").splitlines() if line.strip()]
            facts["accepted"] = len(wanted) if dry_run else await repairing.accept(storage, wanted)
        if dry_run:
            return facts | {"would_repair": ids, "would_end": await repairing.abandoned_ids(storage) if intents else []}
        if ids or intents:
            async with repairing.repairs(storage, legacy, made.zone) as repairs:
                facts["ended"] = await repairs.end_abandoned() if intents else 0
                facts["sessions"] = [_row(await repairs.mend(id)) for id in ids]
        return facts

    _tell(with_stores(plan, work), as_json)


def _ids_of(plan: Path, verification: str) -> list[str]:
    from legacy.migration.live.verifying import Verification

    return [one["id"] for one in Verification.kept(plan.resolve().parent, verification).found]


async def _evict(
    storage: IUnifiedStorage,
    legacy: LegacySide,
    plan: Plan,
    name: str,
    journal: Path | None,
    *,
    yes: bool,
    dry_run: bool,
) -> str:
    from legacy.migration.live import evicting, repairing

    member = await evicting.member_named(storage, name)
    is_dead = evicting.is_known_dead(member)
    if dry_run:
        return "dead" if is_dead else "unproven"
    if journal is not None:
        await repairing.drain_file(storage, legacy, plan.zone, journal, member)
    if is_dead:
        void = await evicting.evict_dead(storage, await evicting.member_named(storage, name))
        return "dead, the pass is void" if void else "dead"
    if not yes:
        confirmed(_UNPROVEN.format(name), name)
    await evicting.evict_unproven(storage, name)
    return "unproven"


def _row(one: Repaired) -> dict[str, Any]:
    return {"id": one.session_id, "outcome": one.outcome, "reason": one.reason}


def _tell(facts: dict[str, Any], as_json: bool) -> None:
    left = [one for one in facts.get("sessions", []) if one["outcome"] != "repaired"]
    code = 3 if left else 0
    if as_json:
        print_json(facts | {"exit_code": code})
        raise typer.Exit(code)
    if "evicted" in facts:
        print_line(f"evicted ({facts['evicted']})")
    if "accepted" in facts:
        print_line(f"{counted(facts['accepted'], 'session')} accepted")
    if facts["dry_run"]:
        for name in ("would_repair", "would_end"):
            for id in facts[name]:
                print_line(f"  {name.replace('_', ' ')} {printable(id)}")
        raise typer.Exit(code)
    if facts.get("ended"):
        print_line(f"{counted(facts['ended'], 'write')} ended")
    for one in facts.get("sessions", []):
        style = GOOD if one["outcome"] == "repaired" else BAD
        print_line(styled(f"  {one['outcome']} {printable(one['id'])} {one['reason'] or ''}".rstrip(), style))
    if left:
        print_line(styled(f"{counted(len(left), 'session')} left as they were.", WORTH_A_LOOK))
    raise typer.Exit(code)
