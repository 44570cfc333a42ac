"""Values survive a whole engine, not only the codec: saved, updated, appended, read, listed, filtered."""

import asyncio
import math
import random
from typing import Any

import pytest

from tests.places import EMBEDDED, SERVERS, Place, engines
from tests.unified_storage.test_values import generated, generated_document, same
from unified_storage import StorageCapacityError
from unified_storage.values import MAX_ENCODED, encode

EVERY = engines(*EMBEDDED, *SERVERS)


def deep(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"end": True}
    for _ in range(levels - 1):
        document = {"in": document}
    return document


NOTORIOUS: dict[str, Any] = {
    "NUL": "a\0b",
    "1e22": 1e22,
    "1.7e308": 1.7e308,
    "-0.0": -0.0,
    "smallest": 5e-324,
    "whole float": 1.0,
    "big": 10**30,
    "bigger than a double": 9007199254740993,
    "below 2**63": 2**63 - 1,
    "beyond 2**64": -(2**64) - 1,
    "4 300 digits": 10**4299,
    "order": {"z": 1, "a": 2, "10": 3, "9": 4},
    "empty": [[], {}, "", [[]], [{}]],
    "surrogate": "\ud83d alone",
    "astral": "\U0001f9ea e\u0301 \u202e \ufeff",
    "quotes": "'\"\\%_?$1 ${x} \x1a \r\n; DROP TABLE x; --",
    "0.1+0.2": 0.30000000000000004,
    'key with \0, " and .': {"": {"$type": "not ours"}},
    "other": (b"\0\xff", float("inf"), {1, 2}, [None, True, False]),
}


@pytest.mark.parametrize("engine", EVERY)
async def test_notorious_values_come_back_as_they_were(place: Place) -> None:
    async with place.open() as storage:
        document = NOTORIOUS | {"depth": deep(200)}
        await storage.save({"id": "a", "type": "note", "data": document, "metadata": {"copy": document["order"]}})
        await storage.append("log@note/a", [{"key": "k", "body": document}, {"body": document["surrogate"]}])
        assert await storage.update("a", {"data": {"more": math.pi}}, type="note")
        (listed,) = await storage.list({"type": "note"})
        loaded = await storage.load("a", type="note")
        assert loaded is not None
        wanted = document | {"more": math.pi}
        assert same(loaded["data"], wanted)
        assert same(listed["data"], wanted)
        assert same([entry["body"] for entry in await storage.read("log@note/a")], [document, document["surrogate"]])
        for path in ("big", "1e22", "below 2**63", "4 300 digits", "NUL", "surrogate", "astral", "quotes"):
            # by a path that no index serves, and with the value itself in the filter
            assert await storage.count({"type": "note", f"data.{path}": document[path]}) == 1, path


@pytest.mark.parametrize("engine", EVERY)
@pytest.mark.parametrize("filler", ['"', "\\", "x", "\U0001f9ea"])
async def test_the_largest_record_and_entry_fit_and_one_more_byte_is_refused(place: Place, filler: str) -> None:
    """15 MiB encoded, also of characters that a driver has to escape or that take four bytes."""
    room = MAX_ENCODED - len(encode({"x": ""}).encode())
    each = len(encode(filler).encode()) - 2
    text = filler * (room // each)
    async with place.open(statement_timeout=60) as storage:
        await storage.save({"id": "a", "type": "note", "data": {"x": text}})
        await storage.append("log@note/a", [{"body": {"x": text}}])
        loaded = await storage.load("a", type="note")
        assert loaded is not None
        assert loaded["data"] == {"x": text}
        assert await storage.update("a", {"metadata": None}, type="note")
        (entry,) = await storage.read("log@note/a")
        assert entry["body"] == {"x": text}
        with pytest.raises(StorageCapacityError):
            await storage.save({"id": "a", "type": "note", "data": {"x": text + filler * (each + 8)}})


@pytest.mark.scaled
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", EVERY)
async def test_generated_documents_survive_storing(place: Place, scaled) -> None:
    """T2.22, T2.23: type and content, in documents, in entries, and through lists."""
    source = random.Random(11)
    total = scaled(20_000, minimum=400)
    async with place.open() as storage:
        for start in range(0, total, 200):
            documents = {f"d{n:06}": generated_document(source) for n in range(start, min(total, start + 200))}
            bodies = [generated(source, 12) for _ in documents]
            records = [{"id": name, "type": "note", "data": document} for name, document in documents.items()]
            if place.engine == "redis-cluster":  # its batches stay within a partition
                await asyncio.gather(*map(storage.save, records))
            else:
                await storage.batch_save(records)
            await storage.append("log@note/d000000", [{"body": body} for body in bodies])
            listed = await storage.list({"id": {"$in": [*documents]}})
            assert [record["id"] for record in listed] == [*documents]
            for record in listed:
                assert same(record["data"], documents[record["id"]])
            entries = await storage.read("log@note/d000000", last=len(bodies))
            assert all(same(entry["body"], body) for entry, body in zip(entries, bodies, strict=True))
            name, document = next(iter(documents.items()))
            await storage.update(name, {"thread_id": "moved"})
            loaded = await storage.load(name)
            assert loaded is not None
            assert same(loaded["data"], document)
