"""No connection is left open by what was under way when its client was closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.unified_storage.redis.clients import client_of
from unified_storage import StorageClosedError, StorageError
from unified_storage.backends.redis.node import Nodes
from unified_storage.backends.redis.settings import Address, settings_of
from unified_storage.opening import parse_url


class Mute:
    """A server that never answers, and counts who came and who went."""

    def __init__(self) -> None:
        self.port = 0
        self.guests = asyncio.Semaphore(0)
        self.came = 0
        self.went = 0
        self.ended = asyncio.Semaphore(0)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Mute"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.guests.release()
        with suppress(ConnectionError):
            await reader.read(-1)
        self.went += 1
        self.ended.release()
        writer.close()


async def test_who_explores_a_cluster_that_is_closed_meanwhile_goes_on_to_no_other_node() -> None:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Mute().listening()) for _ in range(3)]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        client = client_of(f"redis+cluster://{hosts}", connect_timeout=1)
        asking = [asyncio.create_task(client.ask([("GET", "x")], timeout=30)) for _ in range(4)]
        guests = [asyncio.create_task(node.guests.acquire()) for node in nodes]
        _, waiting = await asyncio.wait(guests, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        for guest in waiting:
            guest.cancel()
        await client.close()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageClosedError}
        await asyncio.sleep(0.2)
        assert (sum(node.came for node in nodes), sum(node.went for node in nodes)) == (1, 1)


async def test_a_node_that_was_let_go_is_closed_with_the_others() -> None:
    """It has a moment for what was sent to it; whoever closes them all does not leave before."""
    async with Mute().listening() as mute:
        nodes = Nodes(settings_of(parse_url(f"redis://127.0.0.1:{mute.port}"), {}), lambda silent: None)
        deadline = asyncio.get_running_loop().time() + 30
        request = nodes.at(Address("127.0.0.1", mute.port)).request([("PING",)], deadline=deadline)
        await asyncio.wait_for(mute.guests.acquire(), 5)
        nodes.keep_only(set())
        await nodes.close(0.05)
        await asyncio.wait_for(mute.ended.acquire(), 0.5)  # well before its moment is over
        request.abandon()


async def test_a_close_that_is_cancelled_cuts_the_connections_of_every_loop() -> None:
    async with Mute().listening() as mute:
        client = client_of(f"redis://127.0.0.1:{mute.port}", connect_timeout=30)

        async def ask() -> None:
            with suppress(StorageError):
                await client.ask([("GET", "x")], timeout=30)

        asking = [asyncio.create_task(asyncio.to_thread(asyncio.run, ask())), asyncio.create_task(ask())]
        async with asyncio.timeout(5):
            await asyncio.gather(*(mute.guests.acquire() for _ in asking))
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        async with asyncio.timeout(10):
            await asyncio.gather(*(mute.ended.acquire() for _ in asking))
        await asyncio.gather(*asking)
