"""What ``import unified_storage`` loads, and what it costs."""

import subprocess
import sys

LOADED = """
import sys
before = set(sys.modules)
import unified_storage
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - sys.stdlib_module_names))
"""
# msgspec and pydantic (with what pydantic itself needs), and nothing else
ALLOWED = {
    "unified_storage",
    "msgspec",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_extensions",
    "typing_inspection",
}
TIMED = """
import time
from pydantic import BaseModel
begun = time.process_time()
import unified_storage
print((time.process_time() - begun) * 1000)
"""
BUDGET = 60.0
"""Milliseconds on top of ``from pydantic import BaseModel``."""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_the_package_loads_pydantic_and_msgspec_alone() -> None:
    loaded = set(run(LOADED).split())
    assert "unified_storage" in loaded
    assert loaded <= ALLOWED, f"also loaded: {sorted(loaded - ALLOWED)}"


def test_importing_the_package_loads_no_floor_above_and_no_driver() -> None:
    loaded = run("import sys, unified_storage; print(*sys.modules)").split()
    for module in (
        "sqlite3",
        "sqlalchemy",
        "unified_storage.backends",
        "unified_storage.layers",
        "unified_storage.testing",
        "pytest",
        "asyncio",  # half of the budget, and needed only where something is opened
    ):
        assert module not in loaded


def test_importing_the_package_costs_little_beside_pydantic() -> None:
    """The best of several runs, in time of this process alone: a busy machine only ever adds to it."""
    costs = sorted(float(run(TIMED)) for _ in range(7))
    assert costs[0] <= BUDGET, f"milliseconds: {costs}"


def test_every_public_name_is_there() -> None:
    program = "import unified_storage as us; print(len(us.__all__), *(hasattr(us, name) for name in set(us.__all__)))"
    count, *there = run(program).split()
    assert there == ["True"] * int(count)
