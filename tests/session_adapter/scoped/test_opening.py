"""Where a service keeps its sessions: a storage, a URL, a named instance or nothing, and who closes what."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionKey
from tests.engines import drop_namespace, engine_url, fresh_namespace, redis_client
from tests.places import ON_DISK, Place, engines, place_on
from unified_storage import (
    StorageClosedError,
    StorageConfigurationError,
    instances,
    open_storage,
    register_redis_instance,
)

KEY = SessionKey("shop", "ann", "s1")


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(instances, "_instances", {})


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


async def test_without_a_storage_it_is_in_memory_and_gone_with_it() -> None:
    """S1.24."""
    service = ScopedSessionService(session_event_limit=2)
    await service.create_session(KEY)
    for number in range(5):
        await service.append_event(KEY, {"role": "user", "content": number})
    session = await service.get_session(KEY)
    assert session is not None
    assert [event.content for event in session.events] == [3, 4]
    assert await ScopedSessionService().get_session(KEY) is None
    await service.close()
    await service.close()
    with pytest.raises(StorageClosedError):
        await service.get_session(KEY)


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_by_a_url_it_opens_the_storage_and_closes_it(place: Place) -> None:
    """S1.25: with options of the storage, and without `async with` as well."""
    async with ScopedSessionService(place.url, namespace=place.namespace, session_event_limit=2) as service:
        await service.create_session(KEY, {"n": 1})
        for number in range(3):
            await service.append_event(KEY, {"role": "user", "content": number})
    with pytest.raises(StorageClosedError):
        await service.get_session(KEY)
    again = ScopedSessionService(place.address)
    try:
        session = await again.get_session(KEY)
        assert session is not None
        assert ([event.content for event in session.events], session.state) == ([1, 2], {"n": 1})
    finally:
        await again.close()


async def test_a_storage_that_it_was_given_stays_open() -> None:
    async with open_storage("memory://") as storage:
        async with ScopedSessionService(storage) as service:
            await service.create_session(KEY)
        assert service.storage is storage
        assert await ScopedSessionService(storage).get_session(KEY) is not None


@pytest.mark.servers
async def test_two_services_on_one_instance_use_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1.26: closing one leaves the other working."""
    url, namespace = engine_url("redis"), fresh_namespace("scoped")
    try:
        async with register_redis_instance("shared", url=url, pool_size=1, client_name=namespace, namespace=namespace):
            one = ScopedSessionService(instance_name="shared")
            other = ScopedSessionService(instance_name="shared")
            await one.create_session(KEY, {"n": 1})
            assert await other.get_session(KEY) is not None
            async with redis_client(url) as raw:
                assert Counter(found["name"] for found in await raw.client_list())[namespace] == 1
            await one.close()
            assert await other.get_session(KEY) is not None
            with pytest.raises(StorageClosedError):
                await one.get_session(KEY)
            await other.close()
    finally:
        await drop_namespace(url, namespace)


async def test_an_unknown_instance_is_refused_with_the_known_ones() -> None:
    """S1.26."""
    async with register_redis_instance("known", url="redis://127.0.0.1:1/0"):
        with pytest.raises(StorageConfigurationError, match=r"'nobody'.*known"):
            ScopedSessionService(instance_name="nobody")


async def test_a_url_wins_over_a_name() -> None:
    """S1.26."""
    async with ScopedSessionService("memory://", instance_name="nobody") as service:
        await service.create_session(KEY)


@pytest.mark.parametrize("name", ["url", "redis_url"])
async def test_other_spellings_of_the_url(name: str) -> None:
    """T1.8."""
    given: dict[str, Any] = {name: "memory://"}
    async with ScopedSessionService(**given) as service:
        await service.create_session(KEY)
    given = {name: "colour://x"}
    with pytest.raises(StorageConfigurationError, match="colour"):
        ScopedSessionService(**given)


@pytest.mark.parametrize("name", ["instance", "redis_instance", "redis_instance_name"])
def test_other_spellings_of_the_instance(name: str) -> None:
    """T1.8; the argument itself wins over another spelling of it."""
    given: dict[str, Any] = {name: "nobody"}
    with pytest.raises(StorageConfigurationError, match="'nobody'"):
        ScopedSessionService(**given)
    with pytest.raises(StorageConfigurationError, match="'somebody'"):
        ScopedSessionService(instance_name="somebody", **given)


def test_what_names_no_storage_is_refused() -> None:
    place: Any
    options: dict[str, Any]
    storage = open_storage("memory://")
    for place, options in (
        (5, {}),
        ("memory://", {"colour": 1}),
        (storage, {"namespace": "x"}),
        (None, {"session_limit": 5}),
    ):
        with pytest.raises(StorageConfigurationError):
            ScopedSessionService(place, **options)
