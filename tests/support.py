"""What the tests ask of their surroundings: how much to run, where the fixture data lies, which engines there are."""

import os
import sqlite3
from pathlib import Path

from tests.engines import server_states

REPOSITORY = Path(__file__).resolve().parent.parent


def scale() -> float:
    """The share of the full counts this run does: 0.02 unless UNIFIED_STORAGE_SCALE says otherwise, 1 is all."""
    text = os.environ.get("UNIFIED_STORAGE_SCALE", "0.02")
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(f"UNIFIED_STORAGE_SCALE is {text}, not a share between 0 and 1")
    return value


def scaled(full: int, *, minimum: int = 1) -> int:
    """This run's part of a *full* count, never under *minimum* and never over *full*.

    A test that uses it in a decorator is marked `scaled`; one that takes the fixture of this name is so by itself.
    """
    return min(full, max(minimum, int(full * scale())))


def fixtures_folder() -> Path:
    """Where the fixture data should lie; whether it does is the caller's question."""
    place = os.environ.get("UNIFIED_STORAGE_FIXTURES", "../shared/fixtures")
    return (REPOSITORY / place).resolve()


def engines() -> dict[str, str]:
    """Every engine of the project with its version, or with the reason why this run leaves it out."""
    return {"memory": "built in", "sqlite": sqlite3.sqlite_version, **server_states()}
