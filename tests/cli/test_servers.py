"""The commands on every server, as programs of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.running import PROGRAM, SESSIONS, run, run_program, write_session
from tests.places import SERVERS, Place, engines, place_on

ON_SERVERS = pytest.mark.parametrize("engine", engines(*SERVERS))
NOBODY = {
    "postgresql": "postgresql://ann:hush1@127.0.0.1:1/x",
    "mysql": "mysql://ann:hush1@127.0.0.1:1/x",
    "redis": "redis://:hush1@127.0.0.1:1",
    "redis-cluster": "redis+cluster://127.0.0.1:1,127.0.0.1:2",
}


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_on(engine, tmp_path) as found:
        yield found


@ON_SERVERS
def test_the_samples_go_there_are_verified_looked_at_and_come_back(capsys, place: Place, tmp_path: Path) -> None:
    there, back = place.address, f"legacy+file://{tmp_path}/back"
    copied = run_program("copy", SESSIONS, there)
    assert (copied.code, "10 sessions read, 10 verified" in copied.out) == (0, True)
    looked = run_program("doctor", there)
    assert (looked.code, "Nothing is wrong." in looked.out, looked.err) == (0, True, "")
    assert run(capsys, "copy", SESSIONS, there, "--json").facts["ledger"]["equal"] == 10
    assert "The same" in run(capsys, "verify", SESSIONS, there).out
    facts = run(capsys, "inspect", there, "--json").facts
    assert (facts["sessions"], facts["health"]["backend"]) == (10, place.engine.partition("-")[0])
    assert run(capsys, "copy", there, back, "--json").facts["ledger"]["copied"] == 10
    assert run(capsys, "verify", there, back).code == 0
    assert len([*(tmp_path / "back").glob("*.json")]) == 10


@ON_SERVERS
def test_what_is_missing_on_a_server_is_said_in_one_line(capsys, place: Place) -> None:
    there = place.address
    for command in (["inspect", there], ["doctor", there], ["copy", there, "memory://"], ["verify", SESSIONS, there]):
        done = run(capsys, *command, "--quiet") if command[0] in ("copy", "verify") else run(capsys, *command)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert f"there is no store of ours in {there}" in done.err


@pytest.mark.parametrize("engine", SERVERS)
def test_a_server_that_is_away_is_exit_code_4_and_worth_another_run(capsys, engine, folder) -> None:
    for command in (
        ["copy", folder, NOBODY[engine]],
        ["inspect", NOBODY[engine]],
        ["doctor", NOBODY[engine], "--json"],
    ):
        done = run(capsys, *command)
        assert (done.code, done.err.count("\n")) == (4, 1)
        assert "run the same command again" in done.err
        assert "hush1" not in done.out + done.err


@ON_SERVERS
async def test_ctrl_c_ends_a_copy_with_130_and_the_next_run_goes_on(place: Place, tmp_path: Path) -> None:
    for number in range(60):
        write_session(tmp_path / "many", f"s{number:02}")
    command = ["copy", str(tmp_path / "many"), place.address]
    copying = await asyncio.create_subprocess_exec(PROGRAM, *command, "--max-rate", "10/s", stderr=subprocess.PIPE)
    async with place.open() as storage:
        while not await storage.count():
            assert copying.returncode is None
    copying.send_signal(signal.SIGINT)
    _, err = await copying.communicate()
    assert copying.returncode == 130
    assert b"run the same command again" in err
    done = await asyncio.to_thread(run_program, *command, "--json")
    ledger = done.facts["ledger"]
    assert (ledger["read"], ledger["verified"], ledger["mismatched"]) == (60, 60, 0)
    assert 0 < ledger["equal"] < 60
