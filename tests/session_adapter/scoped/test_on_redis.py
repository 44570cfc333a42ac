"""Scoped sessions on Redis: nothing is scanned, and what one step touches lies in one slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from session_adapter import ScopedSessionService, SessionKey, SessionNotFoundError, UserKey, record_id
from session_adapter.identity import app_scope, user_scope
from tests.engines import fresh_namespace, private_server, redis_client
from tests.places import place_on
from tests.session_adapter.delegates import Failing
from tests.unified_storage.redis.monitor import SCANNING, Monitor
from unified_storage import StorageConflictError, StorageError, StorageUnsupportedError, StorageValidationError
from unified_storage.backends.redis.partitions import Layout

pytestmark = pytest.mark.servers
KEY = SessionKey("shop", "ann", "s1")
EVENT = {"role": "user", "content": "x"}

CALLS: dict[str, Callable[[ScopedSessionService], Awaitable[object]]] = {
    "list": lambda service: service.list_sessions(KEY.user),
    "list with events": lambda service: service.list_sessions(KEY.user, with_events=True, limit=5),
    "list of nobody": lambda service: service.list_sessions(UserKey("shop", "nobody")),
    "get": lambda service: service.get_session(KEY, event_num=2),
    "append": lambda service: service.append_event(KEY, EVENT),
    "append with deltas": lambda service: service.append_event(KEY, EVENT | {"state_delta": {"a": 1, "user:b": 2}}),
    "app states": lambda service: service.list_app_states("shop"),
    "delete": lambda service: service.delete_session(KEY),
}


@pytest.mark.parametrize("kind", ["redis", "redis-cluster"])
async def test_nothing_scans_the_keys(kind: str) -> None:
    """S1.28."""
    with private_server(kind) as server:
        monitor = Monitor([node.port for node in server.nodes])
        async with ScopedSessionService(server.url, namespace=fresh_namespace("scan")) as service:
            for number in range(30):
                await service.create_session(SessionKey("shop", "ann", f"s{number}"), {"n": number, "app:a": 1})
            for name, call in CALLS.items():
                async with monitor.listening() as told:
                    await call(service)
                assert told.names(), name
                assert not SCANNING & told.names().keys(), name


async def test_no_key_of_a_session_is_left_when_it_is_deleted(tmp_path: Path) -> None:
    """S1.14: nor anything of its user but the state."""
    async with place_on("redis", tmp_path) as place, ScopedSessionService(place.address) as service:
        await service.update_user_state(KEY.user, {"lang": "de"})
        async with redis_client(place.url) as raw:

            async def keys() -> set[bytes]:
                return {key async for key in raw.scan_iter(match=f"us:{place.namespace}:*", count=1000)}

            before = await keys()
            await service.create_session(KEY, {"a": 1})
            await service.append_event(KEY, EVENT | {"id": "e"})
            assert any(record_id(KEY).encode() in key for key in await keys())
            await service.delete_session(KEY)
            left = await keys() - before
            assert not [key for key in left if user_scope(KEY.user).encode() in key]
            assert await service.list_user_states(KEY.user) == {"lang": "de"}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ScopedSessionService]:
    async with place_on("redis-cluster", tmp_path) as place, ScopedSessionService(place.address) as service:
        yield service


def test_what_one_step_touches_shares_a_partition_and_an_app_does_not() -> None:
    """S1.28: a user's sessions, their logs and the user's state."""
    layout = Layout("us:x:", 64)
    for number in range(50):
        user = UserKey("shop", f"u{number}")
        mine = {layout.of(user_scope(user))}
        mine |= {layout.of(record_id(SessionKey("shop", user.user_id, f"s{session}"))) for session in range(20)}
        assert len(mine) == 1
    apart = {layout.of(user_scope(UserKey("shop", f"u{n}"))) for n in range(50)} - {layout.of(app_scope("shop"))}
    assert apart


async def test_keys_of_the_app_are_written_first_and_only_for_what_will_be_done(service: ScopedSessionService) -> None:
    """On a cluster: what the step refuses does not reach the app either."""
    delta = {"a": 1, "user:b": 2, "app:c": 3}
    with pytest.raises(SessionNotFoundError):
        await service.append_event(KEY, EVENT | {"state_delta": delta})
    await service.create_session(KEY)
    with pytest.raises(StorageConflictError):
        await service.append_event(KEY, EVENT | {"state_delta": delta}, expected_version=7)
    with pytest.raises(StorageValidationError):
        await service.append_event(KEY, EVENT | {"state_delta": delta | {"bad": object()}})
    assert await service.list_app_states("shop") == {}
    failing = ScopedSessionService(Failing(service.storage, StorageError("down"), "append"))
    with pytest.raises(StorageError, match="down"):
        await failing.append_event(KEY, EVENT | {"state_delta": delta})
    assert await service.list_app_states("shop") == {}
    await service.append_event(KEY, EVENT | {"state_delta": delta})
    session = await service.get_session(KEY)
    assert session is not None
    assert (session.state, len(session.events)) == (delta, 1)


async def test_a_transaction_of_the_callers_own_is_told_what_does_not_go_together(
    service: ScopedSessionService,
) -> None:
    await service.create_session(KEY)
    with pytest.raises(StorageError) as refused:
        async with service.storage.transaction() as tx:
            await ScopedSessionService(tx).append_event(KEY, EVENT | {"state_delta": {"a": 1, "app:c": 3}})
    assert isinstance(refused.value, StorageUnsupportedError)
    assert await service.list_app_states("shop") == {}


async def test_a_counter_of_the_app_counts_each_event_once(service: ScopedSessionService) -> None:
    counting = ScopedSessionService(service.storage, policies={"app:n": "sum", "n": "sum", "user:n": "sum"})
    await counting.create_session(KEY)
    events = [EVENT | {"id": f"e{n}", "state_delta": {"n": 1, "user:n": 1, "app:n": 1}} for n in range(20)]
    await asyncio.gather(*(counting.append_event(KEY, event) for event in events))
    await asyncio.gather(*(counting.append_event(KEY, event) for event in events))  # known, all of them
    session = await counting.get_session(KEY)
    assert session is not None
    assert (session.state, len(session.events)) == ({"n": 20, "user:n": 20, "app:n": 20}, 20)
