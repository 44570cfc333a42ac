"""A source is read in the same memory, however many sessions it has: each reader, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.legacy.peers.fixture_stores import READ, FixtureStore
from tests.legacy.peers.large_stores import enlarged
from tests.support import scaled

SMALL = 1_000
LARGE = scaled(100_000, minimum=3_000)
MORE = 12 << 10
"""KiB that may come on top, of a Python that holds some ten MiB anyhow."""
PROGRAM = """
import asyncio, re, sys
from pathlib import Path
from legacy.stores.opening import open_source
from legacy.stores.parcels import Parcel
from legacy.stores.places import place_of

async def read(url):
    found = 0
    async with open_source(place_of(url), source_timezone="UTC") as source:
        await source.survey()
        async for batch in source.batches():
            found += sum(isinstance(one, Parcel) and one.is_session for one in batch)
    return found

found = asyncio.run(read(sys.argv[1]))
[peak] = re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())  # of this program, not of its parent
print(found, peak)
"""


def peak_of(url: str) -> tuple[int, int]:
    """How many sessions a process reads there, and how many KiB it takes at most."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found, peak = map(int, ran.stdout.split())
    return found, peak


@pytest.mark.scaled
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells how much a process took at most")
@pytest.mark.usefixtures("fixtures_dir")
@pytest.mark.parametrize("name", [name for name in READ if name != "agnogo_postgres"])
def test_reading_takes_the_same_memory_for_any_number_of_sessions(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = FixtureStore(name)
    client: redis.Redis | None = request.getfixturevalue("empty_redis") if store.lives_on == "redis" else None
    peaks = []
    for sessions in (SMALL, LARGE):
        folder = tmp_path / str(sessions)
        folder.mkdir()
        if client is not None:
            client.flushall()
        enlarged(store, sessions, folder, client)
        found, peak = peak_of(place(store, folder, request))
        assert found == sessions
        peaks.append(peak)
    print(f"{name}: {SMALL} sessions {peaks[0]} KiB, {LARGE} sessions {peaks[1]} KiB")
    assert peaks[1] - peaks[0] < MORE, peaks


def place(store: FixtureStore, folder: Path, request: pytest.FixtureRequest) -> str:
    if store.lives_on == "redis":
        prefix = store.dump()[0]["key"].partition(":")[0] if "prefix" in store.name else ""
        return f"{store.family}+{request.getfixturevalue('redis_server')}" + (f"?prefix={prefix}" if prefix else "")
    if store.lives_on == "file":
        return f"{store.family}+file://{folder}/histories"
    return f"{store.family}+sqlite:///{folder}/{store.database().name}"
