"""A hundred thousand sessions: what is found by an index, and a walk while others delete."""

import asyncio
from pathlib import Path

import pytest

from tests.support import scaled
from unified_storage import open_storage

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800)]
USERS = 500
TOTAL = scaled(100_000, minimum=5_000)


def session(n: int) -> dict:
    return {"id": f"s{n:07}", "type": "session", "data": {"n": n}, "metadata": {"user_id": f"u{n % USERS}"}}


@pytest.fixture
async def storage(tmp_path: Path):
    async with open_storage(f"sqlite:///{tmp_path}/many.db") as opened:
        for start in range(0, TOTAL, 1000):
            await opened.batch_save([session(n) for n in range(start, start + 1000)])
        yield opened


async def test_an_indexed_filter_reads_what_it_finds_and_not_the_rest(storage) -> None:
    """Counted in steps of the engine's machine: a scan would make more than one for each row there is."""
    from unified_storage.backends.sql.sqlite_connection import SQLiteConnection

    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    connection = SQLiteConnection(storage._engine._path, create=False, busy_timeout=5)
    connection._sqlite.set_progress_handler(count, 1)
    from unified_storage.backends.sql import listing
    from unified_storage.filters import parse_filters

    wanted = parse_filters({"type": "session", "metadata.user_id": "u7"})
    found, _ = connection.run(lambda: listing.in_order(storage._store, wanted, None, None, True))
    connection.close()
    assert len(found) == TOTAL // USERS
    assert counted < 150 * len(found) + 1000


async def test_a_walk_sees_every_survivor_once_while_others_delete(storage) -> None:
    """S2.29, T2.25: rows vanish behind and before the place of the walk."""
    seen: list[str] = []
    gone: set[str] = set()
    async for batch in storage.stream_list({"type": "session"}, 500, with_data=False):
        seen += [record["id"] for record in batch]
        last = int(batch[-1]["id"][1:])
        doomed = {f"s{n:07}" for n in (last - 3, last - 200, last + 1, last + 777) if 0 <= n < TOTAL}
        gone |= doomed
        await asyncio.gather(*(storage.delete(id, type="session") for id in doomed))
    assert len(seen) == len(set(seen))
    assert {f"s{n:07}" for n in range(TOTAL)} - gone <= set(seen)
    assert await storage.count({"type": "session"}) == TOTAL - len(gone)
