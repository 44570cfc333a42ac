"""How far a long command is: a bar with rate and time left on a terminal, plain lines otherwise; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from unified_storage_cli.output import console, grouped, print_note

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar
    from rich.progress import Task

SECONDS_BETWEEN_LINES = 5.0
_DOING = {"survey": "looking", "copy": "copying", "verify": "verifying"}


class Progress(Protocol):
    """How far it is: the phase, how many are done, and how many there are (0 while nobody knows)."""

    @property
    def phase(self) -> str: ...

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


OnProgress = Callable[[Progress], None]


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[OnProgress]:
    """While inside: what to call with each progress."""
    if quiet:
        yield lambda _: None
    elif console(sys.stderr).is_terminal and not console(sys.stderr).is_dumb_terminal:
        with _bar() as bar:
            yield _Moving(bar)
    else:
        yield PlainLines()


class PlainLines:
    """A line at the end of each phase, and every few seconds before.

    Args:
        clock: seconds, whose zero means nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._begun = self._last = 0.0
        self._is_done = False

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        if progress.phase != self._phase:
            self._phase, self._begun, self._last, self._is_done = progress.phase, now, now, False
        is_done = progress.done == progress.total > 0 and not self._is_done
        if is_done or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last, self._is_done = now, is_done
            print_note(self._line(progress, now - self._begun))

    def _line(self, progress: Progress, seconds: float) -> str:
        doing = _DOING.get(progress.phase, progress.phase)
        if not progress.total:
            return doing
        line = f"{doing} {grouped(progress.done)} of {grouped(progress.total)}"
        if not progress.done or seconds <= 0:
            return line
        rate = progress.done / seconds
        left = (progress.total - progress.done) / rate
        return f"{line}, {_rate(rate)}" + (f", {duration(left)} left" if left else "")


class _Moving:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._phase = ""
        self._task = bar.add_task(_DOING["survey"], total=None)

    def __call__(self, progress: Progress) -> None:
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._bar.reset(self._task, description=_DOING.get(progress.phase, progress.phase))
        self._bar.update(self._task, completed=progress.done, total=progress.total or None)


def _bar() -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            elapsed = task.elapsed or 0.0
            return Text(_rate(task.completed / elapsed) if elapsed and task.completed else "", style="cyan")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Bar(*columns, console=console(sys.stderr))


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second < 10 else f"{grouped(round(per_second))}/s"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
