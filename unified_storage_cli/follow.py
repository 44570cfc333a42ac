"""``unified-storage copy --follow``: a line for each pass while it goes on, and a summary when it is stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unified_storage_cli.copy_summary import print_copy
from unified_storage_cli.output import (
    GOOD,
    QUIET,
    WORTH_A_LOOK,
    console,
    counted,
    grouped,
    print_json,
    print_line,
    print_note,
    printable,
    styled,
)
from unified_storage_cli.progress import SECONDS_BETWEEN_LINES, Progress, duration

if TYPE_CHECKING:
    from legacy.migration import Following, FollowReport, Pass
    from legacy.stores.parcels import Item

SECONDS_BETWEEN_QUIET_LINES = 60.0


def followed(source: str, target: str, how: Following, *, as_json: bool, quiet: bool) -> FollowReport:
    """What following *source* gave, once a signal has ended it."""
    from legacy.migration import follow_store

    async def run() -> FollowReport:
        stop = _stopped_by_signals()
        return await follow_store(source, target, how, stop=stop, on_pass=shown.on_pass, on_progress=shown.on_progress)

    with _shown(as_json=as_json, quiet=quiet) as shown:
        return asyncio.run(run())


def _stopped_by_signals() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the program at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def end() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    with suppress(NotImplementedError):  # Windows: Ctrl-C ends it between two instructions
        for number in signals:
            loop.add_signal_handler(number, end)
    return stop


class _Unseen:
    """Nobody looks."""

    def on_pass(self, done: Pass) -> None:
        """A pass has ended."""

    def on_progress(self, progress: Progress) -> None:
        """A pass goes on."""


class _JsonLines(_Unseen):
    def on_pass(self, done: Pass) -> None:
        print_json({"pass": done.to_dict()}, on_one_line=True)


class _Line(_Unseen):
    """One line of a terminal, which tells of the last pass and how far the next one is."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._last = ""

    def on_pass(self, done: Pass) -> None:
        self._last = line_of(done)
        self._show(self._last)

    def on_progress(self, progress: Progress) -> None:
        self._show(f"{self._last}{'; ' if self._last else ''}{_reading(progress)}")


class PlainLines(_Unseen):
    """A line a pass; of quiet passes in a row one a minute, of a long one a line every few seconds.

    Args:
        clock: seconds, whose zero means nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._printed = clock()
        self._was_quiet = False

    def on_pass(self, done: Pass) -> None:
        if done.is_quiet and self._was_quiet and self._clock() - self._printed < SECONDS_BETWEEN_QUIET_LINES:
            return
        self._was_quiet = done.is_quiet
        self._print(line_of(done))

    def on_progress(self, progress: Progress) -> None:
        if self._clock() - self._printed >= SECONDS_BETWEEN_LINES:
            self._print(_reading(progress))

    def _print(self, line: str) -> None:
        self._printed = self._clock()
        print_note(line)


@contextmanager
def _shown(*, as_json: bool, quiet: bool) -> Iterator[_Unseen]:
    terminal = console(sys.stderr)
    if as_json or quiet:
        yield _JsonLines() if as_json else _Unseen()
    elif terminal.is_terminal and not terminal.is_dumb_terminal:
        with terminal.status("looking") as status:
            yield _Line(lambda line: status.update(styled(line)))
    else:
        yield PlainLines()


def line_of(done: Pass) -> str:
    """One line that tells what a pass found, how fast it looked, and how far behind the copy may have been."""
    head = f"pass {grouped(done.number)}: "
    if done.error is not None:
        return f"{head}{printable(done.error)}; tried again in the next pass"
    if not done.is_whole:
        return f"{head}stopped before its end, {grouped(done.copied)} copied"
    rate = f" ({grouped(round(done.records / done.seconds))}/s)" if done.records and done.seconds else ""
    behind = "" if done.behind is None else f", at most {duration(done.behind)} behind"
    return f"{head}{_found(done)}; {counted(done.records, 'record')} in {duration(done.seconds)}{rate}{behind}"


def _found(done: Pass) -> str:
    told = [("copied", done.copied), ("deleted", done.deleted)]
    changes = [f"{grouped(count)} {word}" for word, count in told if count] or ["equal"]
    exceptions = [("in conflict", done.conflict), ("quarantined", done.quarantined), ("vanished", done.vanished)]
    return ", ".join([*changes, *(f"{grouped(count)} {word}" for word, count in exceptions if count)])


def _reading(progress: Progress) -> str:
    return f"read {grouped(progress.done)} of {grouped(progress.total)} that may have changed"


def print_follow(done: FollowReport, report: Path | None) -> None:
    """The summary of a run; *report* is the file that says more."""
    from legacy.migration.following import PROMISE

    print_copy(done.copy, report)
    deleted = f", {grouped(done.deleted)} deleted in the target" if done.deleted else ""
    print_line(f"Followed for {counted(done.passes, 'pass', 'passes')}{deleted}.")
    if done.vanished:
        told = f"The source has {counted(done.vanished, 'record')} no more that the target has; --delete deletes them."
        print_line(styled(told, WORTH_A_LOOK))
    if done.last_quiet is None:
        print_line(styled("There was no quiet pass: run it again before you rely on the copy.", WORTH_A_LOOK))
        return
    print_line(styled(f"Promise: {PROMISE}, {done.last_quiet:%Y-%m-%d %H:%M:%S} UTC.", GOOD))
    print_line(styled("What was written to the source after that is in no promise.", QUIET))


def print_follow_json(done: FollowReport, items: Iterable[Item]) -> None:
    """The summary as JSON, one object a line: first what somebody may want to look at."""
    for item in items:
        print_json({"item": item.to_dict()}, on_one_line=True)
    print_json({"summary": done.to_dict()}, on_one_line=True)
