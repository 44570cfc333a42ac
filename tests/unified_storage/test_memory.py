"""The memory backend keeps every promise, and some of its own."""

import asyncio
import gc
import weakref

import pytest

from unified_storage import StorageConfigurationError, StorageTimeoutError, open_storage
from unified_storage.testing import StorageConformance, assert_same_answers, generated_cases
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.differential import INDEXED
from unified_storage.testing.drafts import body, note, session


class TestMemory(StorageConformance):
    """S0.26: the whole interface without anything outside this process."""

    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: open_storage("memory://", **options)


async def test_a_memory_with_a_history_answers_like_a_new_one(scaled) -> None:
    """What was restored before, and taken away, leaves no trace in any answer."""
    clock = ManualClock()
    async with open_storage("memory://", indexed=INDEXED, clock=clock) as used:
        for case in generated_cases(scaled(1000, minimum=40), scaled(250, minimum=10)):
            async with open_storage("memory://", indexed=INDEXED, clock=clock) as new:
                tally = await assert_same_answers(new, used, [case])
            assert tally.found_something > tally.asked // 10


async def test_every_memory_is_a_store_of_its_own() -> None:
    async with open_storage("memory://") as one, open_storage("memory://") as other:
        await one.save(note("a"))
        assert await other.load("a") is None


async def test_closing_drops_what_was_stored() -> None:
    """S0.20, T0.8."""
    storage = open_storage("memory://")
    await storage.save(note("a"))
    tables = weakref.ref(storage._tables)  # type: ignore[attr-defined]
    await storage.close()
    gc.collect()
    assert tables() is None


async def test_who_waits_too_long_for_a_transaction_is_told_so() -> None:
    async with open_storage("memory://?statement_timeout=0.05") as storage:
        await storage.save(note("a"))
        async with storage.transaction() as tx:
            await tx.update("a", {})
            waiting = asyncio.create_task(storage.load("a"))
            await asyncio.wait([waiting], timeout=5)
            with pytest.raises(StorageTimeoutError) as timeout:
                await waiting
            assert timeout.value.retryable is True
        assert await storage.exists("a")


async def test_a_naive_clock_is_a_fault_and_no_local_time() -> None:
    """T2.11."""
    async with open_storage("memory://", clock=lambda: NOON.replace(tzinfo=None)) as storage:
        with pytest.raises(Exception, match="aware"):
            await storage.save(note("a"))


@pytest.mark.parametrize(
    "url", ["memory://?colour=red", "memory://?statement_timeout=soon", "memory://?statement_timeout=0"]
)
def test_an_option_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(StorageConfigurationError):
        open_storage(url)


async def test_appending_costs_the_same_however_long_the_log_is() -> None:
    """Counted, not timed: what an append notes for undoing it does not grow."""
    async with open_storage("memory://") as storage:
        await storage.save(session("s"))
        await storage.append("events/s", [body(n) for n in range(5000)])
        async with storage.transaction() as tx:
            before = len(storage._tables._undo)  # type: ignore[attr-defined]
            await tx.append("events/s", [body("one more")])
            assert len(storage._tables._undo) - before <= 3  # type: ignore[attr-defined]
