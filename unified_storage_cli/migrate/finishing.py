"""``migrate finish``: the end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, PlanFile, confirmed, with_stores
from unified_storage_cli.output import GOOD, counted, print_json, print_line, styled

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from unified_storage.interface import IUnifiedStorage

_PURGE = "Every session of the legacy store will be deleted, and there will be no way back but a backup."


def finish(
    purge_legacy: Annotated[
        bool, typer.Option("--purge-legacy", help="Delete every session of the legacy store too.")
    ] = False,
    keep_tombstones: Annotated[
        str | None, typer.Option(metavar="30d", help="Keep what tells of deletions that are younger.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --purge-legacy: do not ask.")] = False,
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Remove what the migration kept in the target, when everybody uses the target alone.

    What says that the migration is over stays: programs that still go through it find the target.
    """
    kept = None if keep_tombstones is None else timedelta(days=_days(keep_tombstones))
    if purge_legacy and not yes:
        confirmed(_PURGE, "purge")

    async def work(storage: IUnifiedStorage, legacy: LegacySide, _: Plan) -> dict[str, int]:
        from legacy.migration.live.finishing import finish as finished

        return await finished(storage, legacy, purge_legacy=purge_legacy, keep_tombstones=kept)

    facts = with_stores(plan, work)
    if as_json:
        print_json(facts)
        return
    print_line(styled(f"Finished: {counted(facts['items'], 'record')} of the migration removed.", GOOD))
    if purge_legacy:
        print_line(f"{counted(facts['purged'], 'session')} of the legacy store deleted.")


def _days(text: str) -> int:
    number = text.removesuffix("d")
    if not number.isdecimal():
        raise typer.BadParameter(f"{text!r} is no number of days; write 30d")
    return int(number)
