"""What the commands take: places, switches they share, and the texts that are parsed here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

_PLACE = "a URL, or a path that tells what it is (unified-storage formats lists them)"

SourcePlace = Annotated[str, typer.Argument(metavar="SOURCE", help=f"Where the sessions are: {_PLACE}.")]
TargetPlace = Annotated[str, typer.Argument(metavar="TARGET", help="Where they go, likewise.")]
ComparedPlace = Annotated[str, typer.Argument(metavar="TARGET", help="Where they should be, likewise.")]
AnyPlace = Annotated[str, typer.Argument(metavar="URL", help=f"{_PLACE[0].upper()}{_PLACE[1:]}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and no progress.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def parsed_names(text: str) -> dict[str, str]:
    """``app=NAME,user=NAME``, either of them alone too."""
    names: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if name.strip() not in ("app", "user") or not separator or not value.strip() or name.strip() in names:
            raise typer.BadParameter(f"{text!r} names no app and user; write app=NAME,user=NAME")
        names[name.strip()] = value.strip()
    return names


Names = Annotated[
    Any,
    typer.Option(
        "--map",
        metavar="app=NAME,user=NAME",
        parser=parsed_names,
        help="App and user, for formats whose key needs them and a source that lacks them.",
    ),
]


def parsed_rate(text: str) -> float:
    """``100/s`` or ``100`` as a number above 0."""
    try:
        rate = float(text.strip().removesuffix("/s"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no rate; write 100/s") from None
    if not 0 < rate < float("inf"):
        raise typer.BadParameter(f"{text!r} is no rate above 0; write 100/s")
    return rate


def parsed_seconds(text: str | float) -> float:
    """``5`` or ``0.5`` as a number, 0 or more."""
    try:
        seconds = float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise typer.BadParameter(f"{text!r} is no number of seconds, 0 or more")
    return seconds


def parsed_percent(text: str | float) -> float:
    """``5`` or ``5%`` as a number above 0 and at most 100."""
    try:
        percent = float(str(text).strip().removesuffix("%"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no percentage; write 5 or 5%") from None
    if not 0 < percent <= 100:
        raise typer.BadParameter(f"{text!r} is not above 0 and at most 100")
    return percent


def report_file(text: str) -> Path:
    """The file of a report, refused before the work where it could not be written after it."""
    file = Path(text)
    if file.suffix.lower() not in (".json", ".html"):
        raise typer.BadParameter(f"{text!r} ends neither in .json nor in .html")
    if not file.parent.is_dir():
        raise typer.BadParameter(f"the folder of {text!r} does not exist")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise typer.BadParameter(f"{text!r} cannot be written")
    return file
