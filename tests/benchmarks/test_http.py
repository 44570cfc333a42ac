"""The client that measures HTTP services, what it counts, and the page that is written of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.http_data import new_session, session_id
from benchmarks.http_load import Measured, loaded, request
from benchmarks.http_page import PAGE, RESULTS, page, written
from benchmarks.http_run import PROCESSOR, Visited, _look_for
from benchmarks.http_services import AGENTOS, OURS, Service
from benchmarks.measuring import Cell

Answer = Callable[[str, bytes], bytes]


def answered(status: str, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """Answers every request by *answer*, of its first line and its body; cuts the connection where that is empty."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length")), b": 0")
                body = await reader.readexactly(int(length.partition(b":")[2]))
                told = answer(head.split(b"\r\n")[0].decode(), body)
                if not told:
                    break
                for at in range(0, len(told), 7):  # an answer comes in pieces
                    writer.write(told[at : at + 7])
                    await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_every_request_is_sent_once_and_answered() -> None:
    seen: list[str] = []
    told: dict[int, bytes] = {}

    def answer(line: str, body: bytes) -> bytes:
        seen.append(line)
        return answered("200 OK", line.encode() + body)

    def note(number: int, status: int, body: bytes) -> None:
        told[number] = body

    async with server(answer) as port:
        requests = [request("POST", f"/x{number}", {"n": number}) for number in range(30)]
        measured = await loaded(port, requests, 4, note)
    assert sorted(seen) == sorted(f"POST /x{number} HTTP/1.1" for number in range(30))
    assert told == {number: b'POST /x%d HTTP/1.1{"n": %d}' % (number, number) for number in range(30)}
    assert (len(measured.latencies), measured.failures) == (30, 0)
    assert measured.rate > 0


async def test_refusals_and_cut_connections_are_failures() -> None:
    async with server(lambda line, _: answered("500 No" if "/5" in line else "200 OK")) as port:
        assert (await loaded(port, [request("GET", f"/{n}") for n in range(10)], 2)).failures == 1
    async with server(lambda *_: b"") as port:
        assert (await loaded(port, [request("GET", "/")] * 3, 3)).failures == 3


def test_quantiles_are_in_milliseconds() -> None:
    measured = Measured(latencies=[n / 1000 for n in range(1, 101)])
    assert (measured.quantile(0.99), measured.quantile(0.5)) == (100, 51)


async def test_writes_that_are_not_there_are_counted_as_lost() -> None:
    posted, patched = session_id(500_001), session_id(1)
    there = {"session_state": new_session(posted, 1)["session_state"]}

    def answer(line: str, _: bytes) -> bytes:
        if posted in line or "s000002" in line:
            return answered("200 OK", json.dumps(there).encode())
        return answered("404 Not Found", b"{}")

    async with server(answer) as port:
        states = {posted: there["session_state"], patched: there["session_state"], "s000002": {"another": 1}}
        cells = Cell("per_s"), Cell("per_s")
        await _look_for(Visited(Service(OURS, port, 0), states), *cells)
    assert [(cell.lost, cell.checked) for cell in cells] == [(0, 1), (2, 2)]


def test_the_page_tells_what_was_missed_and_what_was_lost() -> None:
    text = page(sample(ours=290.0))
    assert "| list of 20 | 290 | 100 | 2.9x | 3x | **missed** | 1 / 2 | 0.5 / 1.5 | 3x |" in text
    assert "Lost of the acknowledged writes: ours 0 of 9, AgentOS 7 of 9." in text
    assert "| list of 20 | 300 | 100 | 3x | 3x | held |" in page(sample(ours=300.0))


def sample(ours: float) -> dict[str, Any]:
    def both(mine: float, theirs: float) -> dict[str, Any]:
        return {
            OURS: {"median": mine, "lost": 0, "checked": 9},
            AGENTOS: {"median": theirs, "lost": 7, "checked": 9},
        }

    def plain(mine: float, theirs: float) -> dict[str, Any]:
        return {OURS: {"median": mine}, AGENTOS: {"median": theirs}}

    name = "list of 20"
    cells = {name: both(ours, 100.0), f"{name}, p99": plain(1, 2), PROCESSOR.format(name): plain(0.5, 1.5)}
    machine = {"cores": 2, "processor": "P", "system": "Linux", "python": "3.11.7"}
    facts = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc", "machine": machine, "packages": {"agno": "3"}}
    return {**facts, "load": {"sqlite/http": 0.5}, "cells": {"sqlite": cells}}


def test_the_page_of_the_documentation_is_the_generated_one() -> None:
    assert RESULTS.exists()
    assert PAGE.read_text("utf-8") == written(), "run: python -m benchmarks http-report benchmarks/results/http.json"
