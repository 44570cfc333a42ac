"""``migrate run``: what copies, recovers and looks after the programs, beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.migrate.shared import parsed_limit, parsed_settings, with_stores
from unified_storage_cli.output import GOOD, WORTH_A_LOOK, grouped, print_line, print_note, styled
from unified_storage_cli.progress import shown_progress

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.passes import PassState
    from legacy.migration.live.plan import Plan
    from legacy.migration.live.runner import Progress
    from unified_storage.interface import IUnifiedStorage

_PANIC_EVERY = 0.2


def run(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="The file that migrate plan wrote.")],
    max_rate: Annotated[str | None, typer.Option(metavar="N/s", help="Copy at most N sessions a second.")] = None,
    max_p95: Annotated[
        str | None,
        typer.Option(metavar="50ms", help="Wait while the target answers 5 of 100 questions later than this."),
    ] = None,
    nice: Annotated[str | None, typer.Option(metavar="R", help="Rest R seconds for each second of work.")] = None,
    pause_file: Annotated[Path | None, typer.Option(metavar="F", help="Copy nothing while this file is there.")] = None,
    panic_file: Annotated[Path | None, typer.Option(metavar="F", help="Stop at once when this file is there.")] = None,
    max_delete: Annotated[
        Any,
        typer.Option(
            metavar="N|P%", help="Deletions by a pass beyond which it stops. [default: the less of 100 and 1%]"
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when a pass is complete and nothing is left to be done.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Copy the sessions that are there, end what programs left unfinished, and send away those that have died.

    It begins the migration, in phase legacy_only, and works until everybody uses the target alone; one run at a time.
    Killed or interrupted, it goes on where it was. The phase is changed by migrate advance.
    """
    words = [
        f"{name}={value}" for name, value in (("max-rate", max_rate), ("max-p95", max_p95), ("nice", nice)) if value
    ]
    settings = parsed_settings(words)
    limit = None if max_delete is None else parsed_limit(max_delete)

    async def work(storage: IUnifiedStorage, legacy: LegacySide, plan: Plan) -> PassState:
        from legacy.migration.live.passes import DEFAULT_GUARD, Guard
        from legacy.migration.live.runner import Runner, begin
        from legacy.migration.live.throttle import Throttle, change_settings

        await begin(storage, plan_hash=plan.hash, source=plan.source_shown)
        if settings:
            await change_settings(storage, settings)
        with shown_progress(quiet=quiet) as shown:
            runner = Runner(
                storage,
                legacy,
                plan.zone,
                throttle=Throttle(storage, pause_file=pause_file),
                guard=DEFAULT_GUARD if limit is None else Guard(*limit),
                seen_file=file.with_suffix(".seen.json"),
                once=once,
                on_progress=_Told(shown),
            )
            return await _unless_panic(runner.run(), panic_file)

    _print(with_stores(file, work))


async def _unless_panic(running: Any, panic_file: Path | None) -> PassState:
    import asyncio

    from legacy.migration.live.failures import GuardStoppedError

    task: asyncio.Task[PassState] = asyncio.ensure_future(running)
    try:
        while not task.done():
            if panic_file is not None and await asyncio.to_thread(panic_file.exists):
                raise GuardStoppedError(f"stopped by the file {str(panic_file)!r}; remove it, and run it again")
            await asyncio.wait([task], timeout=_PANIC_EVERY)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Told:
    """Shows the copying, and a line where something else changes."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._said: tuple[Any, ...] = ()

    def __call__(self, progress: Progress) -> None:
        migration, state = progress.migration, progress.state
        now = (migration.phase, migration.settled, state.number, state.complete, progress.reason)
        if now != self._said:
            self._say(progress)
            self._said = now
        if state.number and not state.complete:
            self._shown(progress)

    def _say(self, progress: Progress) -> None:
        migration, state = progress.migration, progress.state
        settled = "acknowledged by all" if migration.settled else "not acknowledged by all yet"
        parts = [f"phase {int(migration.phase)} {migration.phase.name_shown} ({settled})"]
        if state.number:
            parts.append(f"pass {state.number} {'complete' if state.complete else 'under way'}")
        if progress.reason:
            parts.append(progress.reason)
        print_note(", ".join(parts))


def _print(state: PassState) -> None:
    ledger = state.ledger
    told = ", ".join(
        f"{name} {grouped(getattr(ledger, name))}"
        for name in ("copied", "equal", "duplicate", "conflict", "tombstoned", "quarantined")
    )
    print_line(f"pass {state.number}: read {grouped(ledger.read)} = {told}")
    to_look_at = ledger.conflict + ledger.quarantined
    if not ledger.is_closed or to_look_at:
        print_line(styled("Something is to be looked at: unified-storage migrate status --quarantine", WORTH_A_LOOK))
        raise typer.Exit(3)
    print_line(styled("Nothing is left to be done.", GOOD))
