"""Failures: one line that says what to do next, the exit code of the contract, and never a password or a value."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest

import legacy.migration
from tests.cli.running import PROGRAM, SESSIONS, run, run_program
from unified_storage import open_storage, opening

WRONG = [
    (["copy"], "Missing argument 'SOURCE'"),
    (["copy", "a"], "Missing argument 'TARGET'"),
    (["copy", "a", "b", "c"], "unexpected extra argument"),
    (["copy", "a", "b", "--nope"], "No such option: --nope"),
    (["copy", "a", "b", "--max-rate", "fast"], "'fast' is no rate; write 100/s"),
    (["copy", "a", "b", "--max-rate", "0"], "no rate above 0"),
    (["copy", "a", "b", "--map", "who=ann"], "write app=NAME,user=NAME"),
    (["copy", "a", "b", "--report", "report.txt"], "ends neither in .json nor in .html"),
    (["copy", "a", "b", "--report", "/nowhere/at/all/report.json"], "does not exist"),
    (["verify", "a", "b", "--sample", "0"], "not above 0 and at most 100"),
    (["verify", "a", "b", "--sample", "half"], "no percentage"),
    (["cpoy", "a", "b"], "No such command 'cpoy'"),
    (["inspect", "/nowhere/at/all"], "does not exist"),
    (["inspect", "http://host/x"], "unknown place"),
    (["copy", "adk+redis://localhost", "memory://"], "do not live on 'redis'"),
    (["copy", "redis+cluster://host:0", "memory://"], "no host:port"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG)
def test_wrong_usage_is_exit_code_1_and_one_line(capsys, arguments, told):
    done = run(capsys, *arguments)
    assert (done.code, done.out) == (1, "")
    assert told in done.err
    assert done.err.startswith("unified-storage: ")
    assert done.err.count("\n") == 1


def test_switches_that_mean_nothing_are_refused(capsys, folder, url):
    for switches in (["--convert", "xml"], ["--source-timezone", "Mars/Olympus"], ["--map", "app=x,user=y"]):
        done = run(capsys, "copy", folder, url, *switches)
        assert (done.code, done.err.count("\n")) == (1, 1)


def test_no_command_shows_the_help_with_exit_code_1(capsys):
    done = run(capsys)
    assert done.code == 1
    assert "copy" in done.out + done.err


def test_with_json_a_failure_is_one_object_too(capsys):
    done = run(capsys, "copy", "/nowhere/at/all", "memory://", "--json")
    assert done.facts["exit_code"] == done.code == 1
    assert done.facts["error"]["error_code"] == "STORAGE_CONFIGURATION_ERROR"
    usage = run(capsys, "copy", "--json")
    assert usage.facts["error"]["type"] == "UsageError"


def test_a_store_that_fails_is_exit_code_4_and_resumable(capsys, folder, tmp_path):
    done = run(capsys, "copy", folder, f"sqlite:///{tmp_path}/no/such/folder/store.db")
    assert (done.code, done.out) == (4, "")
    assert "run the same command again: it goes on where it stopped" in done.err


def test_a_damaged_store_is_exit_code_4(capsys, folder, url, tmp_path):
    run(capsys, "copy", folder, url)
    file = tmp_path / "store.db"
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * 8192)
    done = run(capsys, "verify", folder, url)
    assert (done.code, done.err.count("\n")) == (4, 1)


def test_a_sqlite_file_of_another_program_is_refused(capsys, tmp_path):
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()
    done = run(capsys, "inspect", tmp_path / "other.db")
    assert done.code == 1
    assert "another program" in done.err


SECRETIVE = [
    "postgresql://ann:hush1@127.0.0.1:1/x",
    "postgresql://ann:hush1/hush1@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?user=ann&password=hush1",
    "postgresql:///x?host=/nowhere&password=hush1",
    "postgresql://127.0.0.1:1/x?sslmode=prefer&sslpassword=hush1,hush1",
    "postgresql://ann:hush1@127.0.0.1:hush1/x",
    "mysql://ann:hush1@127.0.0.1:1/x",
    "mysql://ann@corp:hush1/hush1@127.0.0.1:1/x",
    "mysql://127.0.0.1:1/x?user=ann&password=hush1'hush1",
    "mysql://ann:hush1@/x?unix_socket=/nowhere/mysqld.sock",
    "mysql://ann:hush1@127.0.0.1",
    "mysql://ann:hush1?hush1@127.0.0.1:1/x",
    "redis://:hush1@127.0.0.1:1/0",
    "redis://ann:hush1/hush1@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?password=hush1&ssl_password=hush1",
    "rediss://127.0.0.1:1/0?password=hush1&ssl_password=hush1",
    "redis+cluster://ann:hush1@127.0.0.1:1,127.0.0.1:2",
    "redis://ann:hush1?hush1@127.0.0.1:1/0",
    "redis://127.0.0.1:1?socket_read_size=odd&password=hush1@hush1",
    "sqlite:///nowhere.db?password=hush1",
    "memory://?password=hush1",
    "nothing://ann:hush1@db/x",
    "postgresql:ann:hush1/hush1@db",
]
"""URLs of places that cannot be had, most of them with a password that nobody escaped."""


@pytest.mark.parametrize("url", SECRETIVE)
@pytest.mark.parametrize(
    "command",
    [["copy", "{}", "memory://"], ["copy", "SESSIONS", "{}", "--json"], ["verify", "memory://", "{}"],
     ["inspect", "{}", "--json"], ["doctor", "{}"], ["doctor", "x", "--nope={}"]],
)  # fmt: skip
def test_passwords_are_masked_everywhere(capsys, caplog, monkeypatch, tmp_path, command, url):
    monkeypatch.chdir(tmp_path)
    arguments = [str(SESSIONS) if word == "SESSIONS" else word.format(url) for word in command]
    done = run(capsys, *arguments)
    assert done.code in (1, 4)
    assert "hush1" not in done.out + done.err + caplog.text
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("login", ["ann:hush1@db/x", "db/x?password=hush1", "ann:hush1/hush1@db/x?ssl_password=hush1"])
def test_no_password_is_in_the_results_of_a_command(capsys, monkeypatch, tmp_path, folder, login):
    kept = open_storage("memory://")
    monkeypatch.setattr(kept, "close", lambda: asyncio.sleep(0))
    monkeypatch.setitem(opening._registered, "vault", lambda *_, **__: kept)
    url, report = f"vault://{login}", [tmp_path / "report.json", tmp_path / "report.html"]
    for command in (
        *(["copy", folder, url, "--report", file] for file in report),
        *(["verify", folder, url], ["inspect", url], ["inspect", url, "a"], ["doctor", url]),
    ):
        for switch in ([], ["--json"]):
            done = run(capsys, *command, *switch)
            assert (done.code, "vault" in done.out + done.err or "a" in command) == (0, True)
            assert "hush1" not in done.out + done.err
    assert not any("hush1" in file.read_text() for file in report)


@pytest.mark.parametrize(
    "command", [["copy", "{}", "memory://"], ["copy", "SESSIONS", "{}"], ["inspect", "{}"], ["doctor", "{}"]]
)
@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql://h/d", "asyncpg", "postgres"),
        ("mariadb://h/d", "asyncmy", "mysql"),
        ("redis://h", "redis", "redis"),
    ],
)
def test_an_engine_without_its_driver_says_what_to_install(capsys, monkeypatch, command, url, driver, extra):
    for name in [*sys.modules]:
        if name.startswith(("unified_storage.backends.redis", "unified_storage.backends.sql.", f"{driver}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    done = run(capsys, *(str(SESSIONS) if word == "SESSIONS" else word.format(url) for word in command))
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"pip install 'unified-storage[{extra}]'" in done.err


def test_an_unforeseen_failure_names_its_place_and_no_value(capsys, monkeypatch, folder, url):
    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the user said: my secret diary")

    monkeypatch.setattr(legacy.migration, "copy_store", fails)
    done = run(capsys, "copy", folder, url, "--json")
    assert done.code == 4
    assert "diary" not in done.out + done.err
    assert "unexpected RuntimeError at test_errors.py:" in done.err


def test_the_traceback_is_there_for_who_asks(capsys, monkeypatch):
    monkeypatch.setenv("UNIFIED_STORAGE_DEBUG", "1")
    assert "Traceback" in run(capsys, "inspect", "/nowhere/at/all").err


def test_interruption_is_130_and_says_that_a_copy_goes_on(capsys, monkeypatch, folder, url):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(legacy.migration, "copy_store", interrupted)
    monkeypatch.setattr(legacy.migration, "inspect_place", interrupted)
    copy = run(capsys, "copy", folder, url)
    assert (copy.code, "run the same command again" in copy.err) == (130, True)
    inspect = run(capsys, "inspect", folder)
    assert (inspect.code, inspect.err) == (130, "unified-storage: interrupted\n")


def test_odd_names_are_shown_without_moving_the_terminal(capsys, folder, url):
    (folder / "odd\x1b[2J\nname.json").write_text("{")
    done = run(capsys, "copy", folder, url)
    assert done.code == 3
    assert "\x1b" not in done.out
    assert "odd\\x1b[2J\\nname.json" in done.out


def test_a_reader_that_has_seen_enough_is_no_failure(folder, url):
    run_program("copy", folder, url)
    for switches in (["--json"], []):
        command = subprocess.Popen([PROGRAM, "inspect", url, *switches], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert command.stdout is not None
        command.stdout.close()
        _, err = command.communicate(timeout=30)
        assert (command.returncode, err) == (0, b"")
