"""What ``import unified_storage`` loads; what that costs is measured by `make bench`."""

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
ADDED = """
import sys
from pydantic import BaseModel
before = set(sys.modules)
import unified_storage
print(*sorted(set(sys.modules) - before))
"""
MOST_ADDED = 45
"""Modules on top of ``from pydantic import BaseModel``: 38 stay well below the 60 ms that `make bench` measures."""


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
        "asyncio",  # as dear as all the rest together, and needed only where something is opened
    ):
        assert module not in loaded


def test_importing_the_package_loads_few_modules_beside_pydantic() -> None:
    added = run(ADDED).split()
    assert len(added) <= MOST_ADDED, f"added: {added}"


def test_every_public_name_is_there() -> None:
    program = "import unified_storage as us; print(len(us.__all__), *(hasattr(us, name) for name in set(us.__all__)))"
    count, *there = run(program).split()
    assert there == ["True"] * int(count)
