"""What is told while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.durations import as_text


class PlainProgress:
    """One line when a part begins and one when it ends."""

    def __init__(self, console: Console, expected: Mapping[str, float]) -> None:
        self._console = console
        self._expected = expected
        self._left = sum(expected.values())
        self._begun: dict[str, float] = {}

    def tell(self, step: str, what: str) -> None:
        """What a part (``engine/name``) does now."""
        if step not in self._begun:
            self._begun[step] = time.monotonic()
            self._line(f"{step}: about {as_text(self._expected[step])}")

    def finish(self, step: str, what: str) -> None:
        self._left -= self._expected[step]
        self._line(f"{step}: {what}, about {as_text(max(0.0, self._left))} to go")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


class BarProgress:
    """A bar that moves by expected seconds."""

    def __init__(self, bar: Progress, expected: Mapping[str, float]) -> None:
        self._bar = bar
        self._expected = expected
        self._left = sum(expected.values())
        self._task = bar.add_task("", total=self._left or 1.0, left=as_text(self._left))

    def tell(self, step: str, what: str) -> None:
        self._bar.update(self._task, description=f"{step}: {what}")

    def finish(self, step: str, what: str) -> None:
        self._left -= self._expected[step]
        self._bar.update(self._task, advance=self._expected[step], left=as_text(max(0.0, self._left)))
        self._bar.console.print(f"{step}: {what}", highlight=False)


@contextmanager
def shown_progress(console: Console, expected: Mapping[str, float]) -> Iterator[PlainProgress | BarProgress]:
    """What to tell of the parts whose *expected* seconds are given."""
    if not console.is_terminal:
        yield PlainProgress(console, expected)
        return
    left = TextColumn("about {task.fields[left]} to go")
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), left, console=console) as bar:
        yield BarProgress(bar, expected)
