"""How appends that come together are shared out, where an engine takes several statements at once."""

import asyncio
from typing import Any

import pytest

from unified_storage.backends.sql.appends import Appends, Verdict
from unified_storage.placing import checked_append


class _Store:
    def now(self) -> int:
        return 1


class _Counting:
    """An engine that takes a moment for each statement, and notes the owners of each."""

    def __init__(self, most_under_way: int) -> None:
        self.most_under_way = most_under_way
        self.statements: list[set[str]] = []
        self.under_way: list[set[str]] = []
        self.most_seen = 0
        self.last: dict[str, int] = {}

    async def alone(self, line: Any, name: Any, *_: Any) -> int:
        await self._done({name.owner_id})
        return self._numbered(name, 1) + 1

    async def together(self, line: Any, shares: Any, *_: Any) -> list[Verdict]:
        await self._done({share.name.owner_id for share in shares})
        return [Verdict(self._numbered(share.name, len(share.drafts))) for share in shares]

    async def _done(self, owners: set[str]) -> None:
        assert all(owners.isdisjoint(others) for others in self.under_way)
        self.statements.append(owners)
        self.under_way.append(owners)
        self.most_seen = max(self.most_seen, len(self.under_way))
        await asyncio.sleep(0.002)
        self.under_way.remove(owners)

    def _numbered(self, name: Any, count: int) -> int:
        before = self.last.get(name.log_id, 0)
        self.last[name.log_id] = before + count
        return before


async def _appended(engine: _Counting, *, owners: int, tasks: int, each: int) -> list[list[int]]:
    """The numbers that each task was given."""

    async def at_once(appending: Any) -> Any:
        return await appending(None, None)

    async def long_way(asked: Any) -> Any:
        raise AssertionError(asked)

    async def task(number: int) -> list[int]:
        asked = checked_append(f"log@note/n{number % owners}", [{"body": number}], "error", None, None)
        return [(await appends.append(asked, long_way))[0] for _ in range(each)]

    appends = Appends(_Store(), engine, at_once, 30.0)  # type: ignore[arg-type]
    return await asyncio.gather(*(task(number) for number in range(tasks)))


@pytest.mark.parametrize("most_under_way", [1, 2, 3])
async def test_all_that_may_be_under_way_have_like_parts_of_the_owners(most_under_way: int) -> None:
    engine = _Counting(most_under_way)
    numbers = await _appended(engine, owners=60, tasks=60, each=10)
    assert numbers == [[*range(1, 11)]] * 60
    assert engine.most_seen == most_under_way
    first_whole = next(at for at, owners in enumerate(engine.statements) if len(owners) > 1)
    settled = engine.statements[first_whole + most_under_way : -2 * most_under_way]
    assert settled
    assert {len(owners) for owners in settled} <= {*range(60 // most_under_way - 1, 60 // most_under_way + 2)}


async def test_appends_to_one_record_all_go_together() -> None:
    engine = _Counting(2)
    numbers = await _appended(engine, owners=1, tasks=16, each=10)
    assert sorted(number for each in numbers for number in each) == [*range(1, 161)]
    assert engine.most_seen == 1
    assert len(engine.statements) <= 12
