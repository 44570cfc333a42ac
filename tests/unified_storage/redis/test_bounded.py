"""However large documents are and however many have expired, a script and its answer stay small."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import open_storage
from unified_storage.backends.redis import listing, paths, store
from unified_storage.testing.clock import NOON, ManualClock
from unified_storage.testing.drafts import gathered, ids, note, session

pytestmark = pytest.mark.servers
LARGE = 100_000
"""Bytes of each document."""


@pytest.fixture(params=["redis", "redis-cluster"])
def url(request: pytest.FixtureRequest) -> str:
    return engine_url(request.param)


@pytest.fixture
async def namespace(url: str) -> AsyncIterator[str]:
    name = fresh_namespace("rb")
    yield name
    await drop_namespace(url, name)


@pytest.fixture
async def storage(url: str, namespace: str) -> AsyncIterator[Any]:
    async with open_storage(url, namespace=namespace, clock=ManualClock()) as opened:
        yield opened


class Answers:
    """The bytes of documents in what a client answers at once."""

    def __init__(self, client: Any) -> None:
        self.most = 0
        self._inner = client.ask
        client.ask = self._ask

    async def _ask(self, commands: Any, **options: Any) -> Any:
        answers = await self._inner(commands, **options)
        self.most = max(self.most, _size(answers))
        return answers


def _size(answer: Any) -> int:
    if isinstance(answer, list):
        return sum(map(_size, answer))
    return len(answer) if isinstance(answer, bytes) else 0


async def _filled(storage: Any, count: int) -> None:
    for n in range(count):
        await storage.save(note(f"{n:03}", {"n": n % 5, "text": "x" * LARGE}))


async def test_a_list_by_another_path_holds_few_documents_at_a_time(storage: Any, monkeypatch) -> None:
    monkeypatch.setattr(store, "BYTES_AT_ONCE", 3 * LARGE)
    await _filled(storage, 40)
    wanted = [f"{n:03}" for n in range(3, 40, 5)]
    answers = Answers(storage._client)
    assert ids(await storage.list({"type": "note", "data.n": 3})) == wanted
    assert ids(await gathered(storage.stream_list({"data.n": 3}, batch_size=3))) == wanted
    assert await storage.count({"data.n": 3}) == len(wanted)
    page = await storage.page({"data.n": 3}, limit=3)
    assert ids(page.items) == wanted[:3]
    assert ids((await storage.page({"data.n": 3}, cursor=page.next_cursor)).items) == wanted[3:]
    assert LARGE < answers.most < 4.5 * LARGE


async def test_a_document_larger_than_what_is_read_at_once_is_read_alone(storage: Any, monkeypatch) -> None:
    monkeypatch.setattr(store, "BYTES_AT_ONCE", LARGE // 2)
    await _filled(storage, 6)
    answers = Answers(storage._client)
    assert ids(await storage.list({"data.n": {"$lt": 2}})) == ["000", "001", "005"]
    assert answers.most < 1.5 * LARGE


async def test_documents_that_are_sorted_or_indexed_are_read_a_few_at_a_time(
    storage: Any, url: str, namespace: str, monkeypatch
) -> None:
    for module in (store, paths):
        monkeypatch.setattr(module, "BYTES_AT_ONCE", 3 * LARGE)
    await _filled(storage, 20)
    indexing: Any = open_storage(url, namespace=namespace, indexed={"note": ["data.n", "data.m"]})
    answers = Answers(indexing._client)
    async with indexing:
        assert await indexing.count({"type": "note", "data.n": 3}) == 4
        page = await indexing.page({"type": "note", "data.n": 3}, order_by="-data.n")
        assert ids(page.items) == ["003", "008", "013", "018"]
        if "cluster" not in url:  # there each partition has a part of its own, one after the other few at once
            assert LARGE < answers.most < 4.5 * LARGE


@pytest.mark.parametrize("most", [0, 3, 1000])
async def test_what_has_expired_is_left_out_of_counts_however_much_it_is(storage: Any, monkeypatch, most: int) -> None:
    monkeypatch.setattr(listing, "_MOST_EXPIRED", most)
    monkeypatch.setattr(listing, "_ASKED_AT_ONCE", 4)
    soon = NOON + timedelta(seconds=1)
    records = [
        *(session(f"s{n}", metadata={"status": "ab"[n % 2]}, expires_at=soon if n % 3 else None) for n in range(30)),
        *(note(f"s{n}", metadata={"status": "a"}, expires_at=None if n % 3 else soon) for n in range(15)),
    ]
    await asyncio.gather(*(storage.save(record) for record in records))

    async def counts() -> list[int]:
        filters: tuple[dict[str, Any], ...] = (
            {},
            {"type": "session"},
            {"type": "session", "metadata.status": "b"},
            {"metadata.status": "a"},
        )
        return [await storage.count(each) for each in filters]

    assert await counts() == [45, 30, 15, 30]
    storage.clock.advance(seconds=2)
    expected = [20, 10, 5, 15]
    assert await counts() == expected
    assert await storage.purge_expired() == 25
    assert await counts() == expected
