"""What the tests of the bridges find ready. Where a framework is not installed, its tests are skipped, and say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.places import Place, engines, place_on

ENGINES = ("memory", "sqlite", "postgresql", "redis")
NEEDED = {
    "test_adk": ("google.adk",),
    "test_openai": ("agents",),
    "test_key_value": ("key_value",),
    "test_fastmcp": ("key_value", "fastmcp"),
    "test_across": ("google.adk", "agents"),
    "test_pages": ("google.adk", "agents", "fastmcp"),
}
"""What a test module has to have, by how its name begins."""


class NotInstalled(pytest.Module):
    """A module whose tests cannot run here."""

    def collect(self) -> Any:
        pytest.skip("the frameworks are in .venv-bench alone: make bridges-test")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    for beginning, modules in NEEDED.items():
        if module_path.name.startswith(beginning) and not all(map(_is_installed, modules)):
            return NotInstalled.from_parent(parent, path=module_path)
    return None


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not there either
        return False


@pytest.fixture(params=engines(*ENGINES))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty store on each engine in turn."""
    async with place_on(request.param, tmp_path) as place:
        yield place
