"""``migrate set``: what holds a run back, changed while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, PlanFile, parsed_settings, with_stores
from unified_storage_cli.output import print_json, print_line

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from unified_storage.interface import IUnifiedStorage


def set_(
    words: Annotated[
        list[str], typer.Argument(metavar="max-rate=N|max-p95=50ms|nice=R|pause|resume", help="none lifts a limit.")
    ],
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
) -> None:
    """Change what holds the copying back; the run sees it within a second."""
    changes = parsed_settings(words)

    async def work(storage: IUnifiedStorage, _: LegacySide, __: Plan) -> dict[str, Any]:
        from legacy.migration.live.throttle import change_settings

        changed = await change_settings(storage, changes)
        return {
            "max_rate": changed.max_rate,
            "max_p95": changed.max_p95,
            "nice": changed.nice,
            "paused": changed.paused,
        }

    facts = with_stores(plan, work)
    if as_json:
        print_json(facts)
    else:
        print_line(", ".join(f"{name.replace('_', '-')} {_shown(value)}" for name, value in facts.items()))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}"
