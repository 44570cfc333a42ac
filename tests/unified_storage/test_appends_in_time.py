"""Appends to a record that somebody else holds for long: each is told within its time, however many wait before it."""

import asyncio
from typing import Any

from unified_storage.backends.sql.appends import Appends, Verdict
from unified_storage.errors import StorageTimeoutError
from unified_storage.placing import checked_append


class _Store:
    def now(self) -> int:
        return 1


class _HeldOwner:
    """An engine on which the owner is locked, and each statement takes a while to say so."""

    most_under_way = 1

    async def alone(self, *_: Any) -> None:
        await asyncio.sleep(0.05)

    async def together(self, line: Any, shares: Any, *_: Any) -> list[Verdict]:
        await asyncio.sleep(0.3)
        return [Verdict(None, is_held_elsewhere=True) for _ in shares]


async def test_a_due_moment_that_passes_while_they_are_on_their_way_is_no_reason_to_wait_for_all_before() -> None:
    led: list[Any] = []

    async def at_once(appending: Any) -> Any:
        return await appending(None, None)

    async def long_way(asked: Any) -> Any:
        led.append(asked)
        await asyncio.sleep(0.85)
        raise StorageTimeoutError("it stayed locked")

    appends = Appends(_Store(), _HeldOwner(), at_once, 1.0)  # type: ignore[arg-type]
    asked = [checked_append("log@note/a", [{"body": n}], "error", None, None) for n in range(8)]
    outcomes = await asyncio.gather(*(appends.append(each, long_way) for each in asked), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageTimeoutError] * 8
    assert len(led) <= 3  # eight, one after the other, if nobody looked at the clock
