"""``unified-storage formats``: which places can be read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.output import BAD, GOOD, QUIET, WORTH_A_LOOK, print_json, print_line, print_table, styled

if TYPE_CHECKING:
    from rich.text import Text

    from unified_storage_cli.output import Cell


def formats(as_json: AsJson = False) -> None:
    """List the kinds of places, and what each can hold."""
    from legacy.stores.places import known_formats

    known = known_formats()
    if as_json:
        print_json({"formats": [format.to_dict() for format in known]})
        return
    header = [styled(name, "bold") for name in ("FORMAT", "URL", "READS", "WRITES")]
    rows: list[list[Cell]] = [
        [format.name, styled(format.url, "cyan"), _yes(format.reads), _yes(format.writes)] for format in known
    ]
    print_table([[*header], *rows], indent=0)
    for format in known:
        if format.lossy:
            print_line()
            print_line(styled(f"{format.name} holds {format.lossy}", WORTH_A_LOOK))
    for format in known:
        if format.to_install:
            print_line(styled(f"{format.name} needs its driver: {format.to_install}", WORTH_A_LOOK))
    print_line(styled("\nA bare path works where looking at it tells what it is.", QUIET))


def _yes(can: bool) -> Text:
    return styled("yes", GOOD) if can else styled("no", BAD)
