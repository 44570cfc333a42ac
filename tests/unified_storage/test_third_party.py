"""A storage by a third party: short, registered under a scheme of its own, and passing the public suite."""

import inspect
from typing import Any

import pytest

from tests.unified_storage.shelf import Shelf
from unified_storage import IUnifiedStorage, open_storage, opening, register_backend
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


@pytest.fixture(autouse=True)
def _shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_registered", {})
    register_backend("shelf", lambda url, *, indexed, clock: Shelf(indexed, clock))


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
    """It uses nothing but the ground floor, and two hundred lines or so."""
    lines = [line for line in inspect.getsource(Shelf).splitlines() if line.strip()]
    assert len(lines) <= 200


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_what_is_derived_behaves_like_the_model(scaled) -> None:
    run_state_machine(lambda **options: open_storage("shelf://", **options), examples=scaled(500, minimum=15))


async def test_what_is_derived_answers_like_the_memory_backend(scaled) -> None:
    options: dict[str, Any] = {"indexed": INDEXED, "clock": ManualClock()}
    async with open_storage("memory://", **options) as reference, open_storage("shelf://", **options) as shelf:
        tally = await assert_same_answers(reference, shelf, generated_cases(scaled(1000), scaled(250)))
    assert tally.found_something > tally.asked // 10
