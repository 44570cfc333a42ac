"""``migrate verify``: both stores compared while programs write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AsJson, Quiet, parsed_percent
from unified_storage_cli.migrate.shared import DEFAULT_PLAN, PlanFile, with_stores
from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    bar,
    counted,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)
from unified_storage_cli.progress import shown_progress

if TYPE_CHECKING:
    from legacy.migration.live.legacy_side import LegacySide
    from legacy.migration.live.plan import Plan
    from legacy.migration.live.verifying import Verification
    from unified_storage.interface import IUnifiedStorage

_SHOWN = 50
_KINDS = (
    ("equal", GOOD, ""),
    ("different", BAD, "in both, with other contents"),
    ("missing_in_target", BAD, "in the legacy store alone"),
    ("only_in_target", BAD, "in the target alone"),
    ("unreadable", WORTH_A_LOOK, "not to be read in the legacy store"),
    ("moving", WORTH_A_LOOK, "written again and again meanwhile, not verified"),
)


def verify(
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with this verification.")] = None,
    sample: Annotated[
        Any, typer.Option(metavar="PCT", parser=parsed_percent, help="Compare this percentage, the same each time.")
    ] = 100.0,
    only: Annotated[
        str | None, typer.Option(metavar="mismatched", help="Only what the verification of --resume found.")
    ] = None,
    max_report: Annotated[int, typer.Option(metavar="N", min=0, help="Differences that are named, at most.")] = 1000,
    plan: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare every session of both stores; nothing is written to either, in any phase.

    A difference counts where it stays while nobody writes the session. How far it is stands in a file beside the plan,
    so that a killed verification goes on with --resume. The exit code is 3 when something differs or was not verified.
    """
    if only not in (None, "mismatched"):
        raise typer.BadParameter(f"--only can be mismatched, not {only!r}")
    if only is not None and resume is None:
        raise typer.BadParameter("--only mismatched wants --resume ID: what that verification found is compared again")

    async def work(storage: IUnifiedStorage, legacy: LegacySide, _: Plan) -> Verification:
        from legacy.migration.live.verifying import Verification, verify_live

        folder = plan.resolve().parent
        earlier = None if resume is None else Verification.kept(folder, resume)
        again = None if only is None or earlier is None else [one["id"] for one in earlier.found]
        begun = earlier if again is None else None
        with shown_progress(quiet=quiet or as_json) as shown:
            return await verify_live(
                storage,
                legacy,
                begun=begun or Verification(sample=float(sample)),
                only=again,
                max_report=max_report,
                folder=folder,
                on_progress=shown,
            )

    done = with_stores(plan, work)
    if as_json:
        print_json(done.to_dict())
    else:
        _print(done)
    raise typer.Exit(done.exit_code)


def _print(done: Verification) -> None:
    print_line(styled(f"verification {done.id}", "bold"))
    rows = [(name, getattr(done, name), style, meaning) for name, style, meaning in _KINDS]
    print_table(
        [
            (
                name.replace("_", " "),
                styled(grouped(count), style if count else QUIET),
                bar(count, done.compared, style=style),
                styled(meaning if count else "", QUIET),
            )
            for name, count, style, meaning in rows
        ],
        right=[1],
    )
    print_line(styled(f"  = {counted(done.compared, 'session')} compared", "bold"))
    for one in done.found[:_SHOWN]:
        print_line(f"  {styled(one['kind'], BAD)} {printable(one['id'])} {printable(', '.join(one['paths']))}")
    if done.exit_code == 0:
        print_line(styled("The same.", GOOD))
    else:
        print_line(styled(f"Not the same: migrate repair --from {done.id} brings them to what counts.", WORTH_A_LOOK))
