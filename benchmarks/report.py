"""What becomes of a finished run: its file and plots are kept with the code, and the page is written from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.page import page
from benchmarks.plots import PLOTS, draw

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "latest.json"
NOTES = RESULTS.with_name("notes.md")
PAGE = REPOSITORY / "docs" / "explanation" / "performance.md"


def kept() -> dict[str, Any]:
    """The run that the page shows."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def written() -> str:
    """The page as it has to be."""
    return page(kept(), RESULTS.name, PLOTS, NOTES.read_text(encoding="utf-8"))


def keep(run: Path) -> None:
    """Make *run* the run that the page shows; needs matplotlib."""
    RESULTS.parent.mkdir(exist_ok=True)
    if run.resolve() != RESULTS:
        shutil.copyfile(run, RESULTS)
    draw(kept(), RESULTS.parent)
    PAGE.write_text(written(), encoding="utf-8")
