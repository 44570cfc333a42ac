"""What commands print: results on stdout, everything else on stderr; colours on a terminal alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Cell: TypeAlias = "str | Text"
"""A cell of a table or a line: text as it is, or coloured."""

GOOD, BAD, WORTH_A_LOOK, QUIET = "green", "bold red", "yellow", "dim"
_WIDE = 100_000


def prepare_streams() -> None:
    """Let no character that the terminal lacks stop a command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@cache
def console(stream: TextIO) -> Console:
    """The terminal, or what stands for it. Without one there are no colours, and no line is broken."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            """Whoever read has seen enough; the exit code stays the command's."""
            _close_quietly(stream)

    width = None if stream.isatty() else _WIDE
    return Quiet(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _close_quietly(stream: TextIO) -> None:
    # Python flushes its streams at exit and would complain about the broken pipe once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_line(text: Cell = "") -> None:
    """One line of the result."""
    console(sys.stdout).print(text)


def print_note(text: Cell) -> None:
    """One line beside the result."""
    console(sys.stderr).print(text)


def print_error(message: str) -> None:
    """One line that says what went wrong."""
    print_note(styled(f"unified-storage: {printable(message)}", BAD))


def print_json(facts: dict[str, Any], *, on_one_line: bool = False) -> None:
    """One JSON object, in ASCII, so that odd file names survive every terminal and pipe."""
    try:
        sys.stdout.write(json.dumps(facts, indent=None if on_one_line else 2) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly(sys.stdout)


def printable(text: object) -> str:
    """*text* on one line, what could move a terminal's cursor or colour it escaped."""
    given = str(text)
    return given if given.isprintable() else "".join(_shown(character) for character in given)


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()


def styled(text: object, style: str = "") -> Text:
    """*text* in a colour, which only a terminal shows."""
    from rich.text import Text

    return Text(str(text), style=style)


def print_table(rows: Iterable[Sequence[Cell]], *, right: Iterable[int] = (), indent: int = 2) -> None:
    """Rows of cells, each column as wide as its widest cell; columns of numbers stand to the *right*."""
    from rich.text import Text

    table = [[cell if isinstance(cell, Text) else styled(cell) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*table, strict=True)]
    numbers = set(right)
    for row in table:
        line = Text(" " * indent)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell.cell_len)
            line.append_text(styled(gap) + cell if place in numbers else cell + styled(gap))
            line.append("  ")
        line.rstrip()
        print_line(line)


def bar(part: int, whole: int, *, width: int = 24, style: str = "") -> Text:
    """*part* of *whole* as a bar; anything above nothing shows."""
    length = 0 if whole <= 0 or part <= 0 else max(1, round(width * part / whole))
    sign = "#" if console(sys.stdout).options.ascii_only else "█"
    return styled(sign * length, style)


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 session``, ``2 sessions``, ``12 000 sessions``."""
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    """A number with a thin group of three: ``12 000``."""
    return f"{number:,}".replace(",", " ")
