"""FastMCP keeps its event store and its sessions on our storage: a real server, real clients, and restarts between."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from fastmcp.server.event_store import EventStore
from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCNotification

from session_bridges.key_value import UnifiedKeyValue
from tests.places import Place, engines
from tests.servers.processes import free_port
from tests.session_bridges.fastmcp_program import server
from tests.support import REPOSITORY

PROGRAM = "tests.session_bridges.fastmcp_program"
SHARED = engines("sqlite", "postgresql", "redis")
"""Engines on which another process finds what one has left."""


def message(number: int) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": number})


async def replayed(store: EventStore, after: str) -> tuple[Any, list[Any]]:
    sent: list[Any] = []

    async def send(event: EventMessage) -> None:
        sent.append(event.message.params["data"])

    return await store.replay_events_after(after, send), sent


@asynccontextmanager
async def running(place: Place, port: int) -> AsyncIterator[Process]:
    """A server in a process of its own, killed at the end without a word."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", PROGRAM, place.address, str(port), cwd=REPOSITORY
    )
    try:
        await _listening(port)
        yield process
    finally:
        process.kill()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise TimeoutError("the server did not come up")


async def test_events_are_replayed_in_order_behind_the_one_that_was_seen_last(place: Place):
    async with place.open() as storage:
        store = EventStore(storage=UnifiedKeyValue(storage))
        ids = [await store.store_event("stream", message(number)) for number in range(5)]
        await store.store_event("another", message(9))
        assert await replayed(store, ids[1]) == ("stream", [2, 3, 4])
        assert await replayed(store, ids[4]) == ("stream", [])
        assert await replayed(store, "unknown") == (None, [])


async def test_an_event_store_keeps_so_many_events_of_a_stream(place: Place):
    async with place.open() as storage:
        store = EventStore(storage=UnifiedKeyValue(storage), max_events_per_stream=3)
        ids = [await store.store_event("stream", message(number)) for number in range(6)]
        assert await replayed(store, ids[3]) == ("stream", [4, 5])
        assert await replayed(store, ids[0]) == (None, [])
        assert await storage.count({"type": "kv", "data.collection": "fastmcp_events"}) == 3


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_events_outlive_the_server_that_stored_them(place: Place):
    async with UnifiedKeyValue(place.address) as before:
        ids = [await EventStore(storage=before).store_event("stream", message(number)) for number in range(4)]
    async with UnifiedKeyValue(place.address) as after:
        assert await replayed(EventStore(storage=after), ids[0]) == ("stream", [1, 2, 3])


async def test_sessions_of_a_server_are_kept_apart(place: Place):
    async with place.open() as storage, Client(server(UnifiedKeyValue(storage))) as client:
        ann, bob = [(await client.call_tool("create_session")).data for _ in range(2)]
        for session, text in ((ann, "tea"), (bob, "rye"), (ann, "milk")):
            notes = (await client.call_tool("note", {"text": text, "session_id": session})).data
        assert notes == ["tea", "milk"]
        await client.call_tool("end_session", {"session_id": ann})
        with pytest.raises(ToolError):
            await client.call_tool("note", {"text": "more", "session_id": ann})
        assert (await client.call_tool("note", {"text": "more", "session_id": bob})).data == ["rye", "more"]


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_a_client_goes_on_with_its_session_after_the_server_was_killed(place: Place):
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with running(place, port), Client(url) as client:
        session = (await client.call_tool("create_session")).data
        assert (await client.call_tool("note", {"text": "tea", "session_id": session})).data == ["tea"]
    async with running(place, port), Client(url) as client:
        notes = (await client.call_tool("note", {"text": "milk", "session_id": session})).data
    assert notes == ["tea", "milk"]


@pytest.mark.parametrize("place", SHARED, indirect=True)
async def test_a_client_whose_stream_was_closed_comes_back_for_the_answer(place: Place):
    port = free_port()
    async with running(place, port), Client(f"http://127.0.0.1:{port}/mcp", mode="legacy") as client:
        assert (await client.call_tool("slowly")).data == "here it is"
    async with place.open() as storage:
        answers = [
            record["data"]["value"]["message"] for record in await storage.list({"type": "kv"}) if _is_event(record)
        ]
    assert any("here it is" in str(answer) for answer in answers)


def _is_event(record: dict[str, Any]) -> bool:
    return bool(record["data"]["collection"] == "fastmcp_events")
