"""`python -m migration_model [NAME ...] [--quick]`: the table, with the shortest story of every row that fails."""

import argparse
import sys

from migration_model.configurations import ROWS, Row
from migration_model.explore import Outcome, explore


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1: a row came out otherwise than expected."""
    asked = parser().parse_args(arguments)
    chosen = [row for row in ROWS if (not asked.names or row.name in asked.names) and (row.quick or not asked.quick)]
    surprises = 0
    for row in chosen:
        outcome = explore(row.rules)
        show(row, outcome, timed=not asked.untimed)
        surprises += surprising(row, outcome)
    print(f"{len(chosen)} rows, {surprises} unexpected")
    return 1 if surprises else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m migration_model", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to walk, of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="only the rows that take seconds")
    parser.add_argument("--untimed", action="store_true", help="leave the seconds out, to compare two tables")
    return parser


def surprising(row: Row, outcome: Outcome) -> bool:
    return not outcome.verdict.startswith(row.expected)


def show(row: Row, outcome: Outcome, *, timed: bool) -> None:
    verdict = outcome.verdict + ("  (UNEXPECTED)" if surprising(row, outcome) else "")
    seconds = f" {outcome.seconds:7.1f}s" if timed else ""
    print(f"{row.name:32s} {verdict:22s} {outcome.states:>9,d} states{seconds}  {row.text}", flush=True)
    if not outcome.holds:
        print(f"      {outcome.complaint or 'no way to finish from here'}")
        for number, told in enumerate(outcome.story, 1):
            print(f"      {number:2d}. {told}")


sys.exit(main())
