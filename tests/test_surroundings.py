"""What the tests take for granted about their own surroundings, and the repository about its packages."""

import re
import sqlite3
import tomllib
from typing import Any

import pytest

from tests import support


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((support.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def packages() -> list[str]:
    """The packages at the top level, apart from what is only run in a checkout."""
    found = {file.parent.name for file in support.REPOSITORY.glob("*/__init__.py")}
    return sorted(found - {"benchmarks", "migration_model", "tests"})


@pytest.mark.parametrize("package", packages())
def test_every_package_is_shipped_typed_and_stands_on_a_floor(project: dict[str, Any], package: str) -> None:
    tool = project["tool"]
    assert package in tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert package in tool["mypy"]["files"]
    assert package in tool["importlinter"]["root_packages"]
    assert package in tool["coverage"]["run"]["source"]


@pytest.mark.parametrize("name", ["lock.txt", "base.txt", "bench.txt"])
def test_the_lock_is_hashed_and_names_no_address(name: str) -> None:
    lines = (support.REPOSITORY / "requirements" / name).read_text(encoding="utf-8").splitlines()
    pinned = [place for place, line in enumerate(lines) if "==" in line and not line.startswith((" ", "#"))]
    assert pinned
    assert all("--hash=sha256:" in lines[place + 1] for place in pinned)
    assert not [line for line in lines if "://" in line or line.startswith("-") or "file:" in line]


def test_the_base_lock_pins_what_the_full_lock_pins() -> None:
    assert pins("base.txt") <= pins("lock.txt")


def pins(name: str) -> set[str]:
    lines = (support.REPOSITORY / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}


@pytest.mark.parametrize(("share", "expected"), [("0.02", 40), ("0.1", 200), ("1", 2000)])
def test_counts_follow_the_scale(monkeypatch: pytest.MonkeyPatch, share: str, expected: int) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SCALE", share)
    assert support.scaled(2000) == expected


def test_a_count_is_never_under_its_minimum_nor_over_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SCALE", "0.02")
    assert support.scaled(100, minimum=30) == 30
    assert support.scaled(20, minimum=30) == 20


@pytest.mark.parametrize("share", ["0", "-1", "2", "nan"])
def test_a_scale_that_is_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    monkeypatch.setenv("UNIFIED_STORAGE_SCALE", share)
    with pytest.raises(ValueError, match="not a share"):
        support.scaled(10)


def test_every_engine_is_named_with_its_version_or_the_reason() -> None:
    engines = support.engines()
    assert list(engines) == ["memory", "sqlite", "postgresql", "mysql", "redis", "redis-cluster"]
    assert engines["sqlite"] == sqlite3.sqlite_version
    assert all(
        re.match(r"(MariaDB |Valkey )?\d|MISSING \(.+\)|from Debian", state) for state in list(engines.values())[2:]
    )
