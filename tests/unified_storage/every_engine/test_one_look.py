"""What a read asks of a server: one statement, and no transaction around it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from typing import Any

import pytest

from tests.places import Place, engines

CONNECTIONS = {"postgresql": "PostgreSQLConnection", "mysql": "MySQLConnection"}
BY_USER = {"type": "session", "metadata.user_id": "u1"}
READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "load": lambda storage: storage.load("s1", type="session"),
    "exists": lambda storage: storage.exists("s1", type="session"),
    "last entries": lambda storage: storage.read("events/s1", last=2),
    "entries in bounds": lambda storage: storage.read("events/s1", after=1, before=9, limit=3),
    "log_info": lambda storage: storage.log_info("events/s1"),
    "page": lambda storage: storage.page(BY_USER, limit=5),
    "list": lambda storage: storage.list({"type": "session"}, limit=20),
    "count": lambda storage: storage.count({"type": "session"}),
}

pytestmark = pytest.mark.parametrize("engine", engines(*CONNECTIONS))


@pytest.fixture
async def storage(place: Place) -> AsyncIterator[Any]:
    async with place.open() as opened:
        records = [{"id": f"s{n}", "type": "session", "data": {}, "metadata": {"user_id": "u1"}} for n in range(30)]
        await opened.batch_save(records)
        await opened.append("events/s1", [{"body": n} for n in range(9)])
        yield opened


@pytest.fixture
def asked(engine: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What connections are asked to do."""
    module = import_module(f"unified_storage.backends.sql.{engine}_connection")
    connection = getattr(module, CONNECTIONS[engine])
    told: list[str] = []

    def noted(name: str, real: Any) -> Any:
        async def call(*given: Any) -> Any:
            told.append(name)
            return await real(*given)

        return call

    for name in ("run", "begin", "commit"):
        monkeypatch.setattr(connection, name, noted(name, getattr(connection, name)))
    return told


@pytest.mark.parametrize("verb", READS)
async def test_a_read_is_one_round_trip(storage: Any, asked: list[str], verb: str) -> None:
    asked.clear()
    assert await READS[verb](storage)
    assert asked == ["run"]


async def test_a_later_page_is_one_round_trip_where_a_union_copies_nothing(
    storage: Any, asked: list[str], engine: str
) -> None:
    first = await storage.page(BY_USER, limit=5)
    asked.clear()
    second = await storage.page(BY_USER, limit=20, cursor=first.next_cursor)
    assert len(second.items) == 20
    assert asked == (["run"] if engine == "postgresql" else ["begin", "run", "commit"])
