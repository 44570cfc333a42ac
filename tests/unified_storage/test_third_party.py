"""A storage by a third party: short, installed under a scheme of its own, and passing the public suite."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import unified_storage
from tests.unified_storage.shelf import Shelf
from unified_storage import IUnifiedStorage, StorageConfigurationError, open_storage, opening
from unified_storage.testing import (
    ManualClock,
    StorageConformance,
    assert_same_answers,
    generated_cases,
    run_state_machine,
)
from unified_storage.testing.differential import INDEXED

DESIGNED_AS_ABSTRACT = {
    *("save", "load", "delete", "stream_list", "transaction", "append", "pop", "rewrite", "read", "log_info", "logs"),
    *("restore", "purge_expired", "health_check", "close"),
}
SHELF = Path(inspect.getfile(Shelf))


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shelf as a distribution of its own would offer it: by nothing but its entry point."""
    about = tmp_path / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{opening.ENTRY_POINT_GROUP}]\nshelf = {Shelf.__module__}:open_shelf\n")
    monkeypatch.syspath_prepend(tmp_path)


class TestShelf(StorageConformance):
    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: open_storage("shelf://", **options)


def test_only_the_verbs_of_the_design_have_to_be_written() -> None:
    assert IUnifiedStorage.__abstractmethods__ == DESIGNED_AS_ABSTRACT
    written = {name for name, value in vars(Shelf).items() if callable(value) and not name.startswith("_")}
    assert written == DESIGNED_AS_ABSTRACT


def test_a_third_partys_storage_is_short() -> None:
    """The whole file, its blank lines too."""
    lines = SHELF.read_text().splitlines()
    assert len(lines) < 150
    assert max(map(len, lines)) <= 120


def test_a_third_partys_storage_stands_on_the_ground_floor_alone() -> None:
    imported = {node.module for node in ast.walk(ast.parse(SHELF.read_text())) if isinstance(node, ast.ImportFrom)}
    ground = Path(inspect.getfile(unified_storage)).parent
    assert (
        {"unified_storage"}
        < imported
        <= {"unified_storage", *(f"unified_storage.{p.stem}" for p in ground.glob("*.py"))}
    )


def test_an_option_that_a_third_party_does_not_know_is_refused() -> None:
    with pytest.raises(StorageConfigurationError, match="colour"):
        open_storage("shelf://?colour=red")


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_what_is_derived_behaves_like_the_model(scaled) -> None:
    run_state_machine(lambda **options: open_storage("shelf://", **options), examples=scaled(500, minimum=15))


async def test_what_is_derived_answers_like_the_memory_backend(scaled) -> None:
    options: dict[str, Any] = {"indexed": INDEXED, "clock": ManualClock()}
    async with open_storage("memory://", **options) as reference, open_storage("shelf://", **options) as shelf:
        tally = await assert_same_answers(reference, shelf, generated_cases(scaled(1000), scaled(250)))
    assert tally.found_something > tally.asked // 10
