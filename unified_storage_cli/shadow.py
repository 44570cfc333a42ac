"""``unified-storage shadow``: does one service answer as another does?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from unified_storage_cli.arguments import AsJson
from unified_storage_cli.output import (
    BAD,
    GOOD,
    QUIET,
    bar,
    counted,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)

if TYPE_CHECKING:
    from session_api.shadow import Difference, Place, ShadowReport

SHOWN_LINES = 50
_MOST_SHOWN = 60


def shadow(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The service that is right: http://host:7777.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one that is to take its place, likewise.")],
    log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Ask what this access log says was asked; - reads it as it is written."),
    ] = None,
    sessions: Annotated[
        int, typer.Option(min=0, help="Without a log: ask for the lists, and for all of so many sessions.")
    ] = 100,
    threshold: Annotated[
        float, typer.Option(metavar="PCT", min=0, max=100, help="The percentage of answers that may differ.")
    ] = 0,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Leave this key out wherever it stands; repeatable.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable with the key or token of both.")
    ] = None,
    show_values: Annotated[bool, typer.Option("--show-values", help="Show what the answers say.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask two session services the same, and compare what they answer.

    Only GET requests about sessions are sent, so nothing is changed. OLD and NEW see the same sessions: both are on one
    database, or one is on a copy. The exit code is 3 when more answers differ than --threshold lets pass.
    """
    try:
        from session_api.client import Service
        from session_api.shadow import compare_services
        from session_api.targets import everything, logged
    except ImportError as error:
        raise ImportError("pip install 'unified-storage[api]' for the HTTP service") from error
    key = _key_in(key_env)
    with closing(Service(old, key)) as right, closing(Service(new, key)) as candidate, _opened(log) as lines:
        right.require()
        candidate.require()
        targets = everything(right, sessions) if lines is None else logged(lines)
        done = compare_services(right, candidate, targets, ignored=ignore or ())
    code = _exit_code(done, threshold)
    if as_json:
        print_json(done.to_dict(show_values=show_values) | {"threshold": threshold, "exit_code": code})
    else:
        _print(done, threshold, show_values)
    raise typer.Exit(code)


def _key_in(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise typer.BadParameter(f"the environment has no {variable}", param_hint="'--key-env'")
    return os.environ[variable]


@contextmanager
def _opened(log: str | None) -> Iterator[TextIO | None]:
    if log is None:
        yield None
        return
    is_piped = log == "-"
    with open(0 if is_piped else log, encoding="utf-8", errors="replace", closefd=not is_piped) as lines:
        yield lines


def _exit_code(done: ShadowReport, threshold: float) -> int:
    from legacy.migration.exit_codes import DONE, TO_LOOK_AT

    return TO_LOOK_AT if done.percent > threshold else DONE


def _print(done: ShadowReport, threshold: float, show_values: bool) -> None:
    from session_api.shadow import milliseconds

    print_line(styled(f"{printable(done.old)} = {printable(done.new)}?", "bold"))
    rows = [("same", done.same, GOOD), ("different", done.different, BAD)]
    print_table(
        [
            (name, styled(grouped(count), style if count else QUIET), bar(count, done.compared, style=style))
            for name, count, style in rows
        ],
        right=[1],
    )
    compared = counted(done.compared, "request")
    print_line(f"  = {compared} compared, {done.percent:.3g} % answered differently ({threshold:g} % may be)")
    for name, seconds in (("old", done.old_seconds), ("new", done.new_seconds)):
        times = milliseconds(seconds)
        if times is not None:
            print_line(styled(f"  {name}: median {times['median']} ms, p99 {times['p99']} ms", QUIET))
    _print_differences(done, show_values)


def _print_differences(done: ShadowReport, show_values: bool) -> None:
    if not done.different:
        return
    print_line(styled("Differences:", BAD))
    for one in islice(done.differences, SHOWN_LINES):
        print_line(f"  GET {printable(one.target)}")
        for line in _lines(one, show_values):
            print_line(styled(f"      {line}", "cyan"))
    if done.different > SHOWN_LINES:
        print_line(styled(f"  and {grouped(done.different - SHOWN_LINES)} more, in --json", BAD))


def _lines(difference: Difference, show_values: bool) -> list[str]:
    if show_values:
        return [printable(f"{place.path}: {_values(place)}") for place in difference.places]
    return [printable(", ".join(place.path for place in difference.places))]


def _values(place: Place) -> str:
    return f"{_shortened(place.old)} -> {_shortened(place.new)}"


def _shortened(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
