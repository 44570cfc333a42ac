"""The portal: asynchronous code for synchronous callers, which never hangs (S2.45, S2.46, T2.12, T2.13)."""

import asyncio
import contextvars
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.places import ON_DISK, Place, engines, place_on
from unified_storage import StorageClosedError, StorageTimeoutError, open_storage, portal
from unified_storage.portal import Portal, WouldDeadlockError, shared_portal
from unified_storage.turns import Turns

pytestmark = pytest.mark.timeout(60)
ON_EVERY_ENGINE = pytest.mark.parametrize("engine", engines(*ON_DISK))


@pytest.fixture
def one():
    with Portal() as opened:
        yield opened


async def answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


async def ticking(seen: list[str]) -> None:
    """Runs until it is cancelled, and says so."""
    try:
        seen.append("started")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


def in_thread(work, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result(5)


def python(program: str, *arguments: str, timeout: float = 10) -> str:
    """What *program* prints, run by itself; a hang or a failure is the test's."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_call_gives_the_coroutines_result(one: Portal) -> None:
    assert one.call(answer("tea")) == "tea"


def test_an_error_of_the_coroutine_arrives_as_it_is(one: Portal) -> None:
    async def fails() -> NoReturn:
        raise KeyError("mine") from ValueError("cause")

    with pytest.raises(KeyError, match="mine") as caught:
        one.call(fails())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, TimeoutError])
def test_interruption_raised_by_a_coroutine_is_not_held_back_and_ends_nobody_elses_call(one, kind) -> None:
    async def raises() -> NoReturn:
        raise kind("out")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(one.call, asyncio.sleep(0.2, "safe"))
        time.sleep(0.05)
        with pytest.raises(kind):
            one.call(raises(), timeout=5)
        assert other.result(5) == "safe"


def test_every_call_runs_on_one_and_the_same_loop(one: Portal) -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loops = {one.call(loop()), in_thread(one.call, loop()), asyncio.run(asyncio.to_thread(one.call, loop()))}
    assert len(loops) == 1


def test_sixteen_threads_call_at_once_and_none_waits_for_another(one: Portal) -> None:
    async def meet(barrier: asyncio.Barrier) -> None:
        await barrier.wait()

    async def barrier() -> asyncio.Barrier:
        return asyncio.Barrier(16)

    gate = one.call(barrier())
    with ThreadPoolExecutor(16) as pool:
        for call in [pool.submit(one.call, meet(gate)) for _ in range(16)]:
            call.result(5)


def test_it_works_inside_a_running_loop_and_says_once_that_it_blocks(one, caplog) -> None:
    async def program() -> list[int]:
        return [one.call(answer(number)) for number in range(3)]

    with caplog.at_level(logging.WARNING, logger="unified_storage.portal"):
        assert asyncio.run(program()) == [0, 1, 2]
    assert len(caplog.records) == 1
    assert "blocks the event loop" in caplog.text


def test_a_call_from_the_portals_own_loop_is_refused(one: Portal) -> None:
    async def nested() -> Any:
        return one.call(answer())

    with pytest.raises(WouldDeadlockError, match="await"):
        one.call(nested(), timeout=5)
    assert one.call(answer()) == 42


def test_context_variables_go_in_and_do_not_come_out(one: Portal) -> None:
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("mine")

    async def look() -> str:
        seen = variable.get()
        variable.set("theirs")
        return seen

    assert one.call(look()) == "mine"
    assert variable.get() == "mine"


# -- time-outs and interruption


def test_a_timeout_cancels_the_coroutine_and_waits_for_its_end(one: Portal) -> None:
    seen: list[str] = []
    begun = time.monotonic()
    with pytest.raises(StorageTimeoutError) as caught:
        one.call(ticking(seen), timeout=0.1)
    assert seen == ["started", "cancelled"]
    assert time.monotonic() - begun < 1
    assert caught.value.details == {"timeout": 0.1, "outcome": "unknown"}


def test_work_that_ends_in_spite_of_the_timeout_is_not_called_undone(one: Portal) -> None:
    async def commits() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "committed"
        return "never"

    assert one.call(commits(), timeout=0.1) == "committed"


def test_a_coroutine_that_ignores_its_cancellation_does_not_hold_the_caller(one: Portal) -> None:
    release = threading.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    begun = time.monotonic()
    with pytest.raises(StorageTimeoutError):
        one.call(stubborn(), timeout=0.1)
    assert time.monotonic() - begun < 0.1 + portal.CANCEL_SECONDS + 1
    release.set()


def test_a_blocked_loop_does_not_hold_the_caller_beyond_timeout_and_grace(one: Portal) -> None:
    release = threading.Event()

    async def blocks() -> None:
        release.wait(10)

    begun = time.monotonic()
    with pytest.raises(StorageTimeoutError):
        one.call(blocks(), timeout=0.1)
    release.set()
    assert time.monotonic() - begun < 0.1 + portal.CANCEL_SECONDS + 1


def test_what_a_signals_handler_raises_cancels_the_coroutine(one: Portal) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> NoReturn:
        raise Alarm

    seen: list[str] = []
    before = signal.signal(signal.SIGUSR1, ring)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Alarm):
            one.call(ticking(seen))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["started", "cancelled"]


CTRL_C = """
import asyncio, signal, sys
from unified_storage.portal import Portal

signal.signal(signal.SIGINT, signal.default_int_handler)

async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)
        print("rolled back", flush=True)
        raise

try:
    Portal().open().call(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_cancels_the_coroutine_and_waits_until_it_is_undone() -> None:
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "working\n"
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=5)[0] == "rolled back\ninterrupted\n"
        finally:
            program.kill()
    assert program.returncode == 0


def test_an_interrupt_right_after_the_start_cancels_the_coroutine_too(
    one: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    handing_over = portal._Call.hand_over

    def interrupted(*arguments: Any) -> NoReturn:
        handing_over(*arguments)
        while not seen:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(portal._Call, "hand_over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.call(ticking(seen))
    assert seen == ["started", "cancelled"]


def test_an_interrupt_on_the_way_to_the_loop_leaves_nothing_to_run(
    one: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.call(answer())
    loop = one._worker._loop  # type: ignore[union-attr]
    sending = loop.call_soon_threadsafe
    seen: list[str] = []

    def interrupted(*_: Any, **__: Any) -> NoReturn:
        monkeypatch.setattr(loop, "call_soon_threadsafe", sending)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.call(ticking(seen))  # a coroutine that is forgotten would be warned of, which fails the test
    assert one.call(answer()) == 42
    assert seen == []


# -- opening and closing


def test_a_call_on_a_portal_that_nobody_opened_is_refused() -> None:
    with pytest.raises(StorageClosedError):
        Portal().call(answer())


def test_closing_ends_the_thread_and_the_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    before = set(threading.enumerate())
    with Portal() as one:
        used = one.call(loop())
        assert len(set(threading.enumerate()) - before) == 1
    assert set(threading.enumerate()) <= before
    assert used.is_closed()
    with pytest.raises(StorageClosedError):
        one.call(answer())


def test_the_last_one_who_closes_ends_the_thread() -> None:
    one = Portal()
    one.open()
    one.open()
    assert one.call(answer()) == 42
    one.close()
    assert one.call(answer()) == 42
    one.close()
    one.close()
    with pytest.raises(StorageClosedError):
        one.call(answer())


def test_closing_ends_a_call_of_another_thread_and_says_why() -> None:
    seen: list[str] = []
    one = Portal().open()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(one.call, ticking(seen))
        while not seen:
            time.sleep(0.01)
        one.close()
        with pytest.raises(StorageClosedError, match="during the call"):
            call.result(5)
    assert seen == ["started", "cancelled"]


def test_a_hundred_openings_leave_no_thread_and_no_descriptor() -> None:
    def once() -> None:
        with Portal() as one:
            one.call(answer())

    once()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        once()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_there_is_one_shared_portal() -> None:
    assert shared_portal() is shared_portal()


# -- fork


def exit_code_of_child(work) -> int:
    """Fork; the child does *work* and exits with what it returns, and has 10 seconds."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_calls_on_a_loop_of_its_own(one: Portal) -> None:
    assert one.call(answer(1)) == 1
    assert exit_code_of_child(lambda: one.call(answer(7))) == 7
    assert one.call(answer(2)) == 2


def test_children_fork_children(one: Portal) -> None:
    one.call(answer())
    assert exit_code_of_child(lambda: exit_code_of_child(lambda: one.call(answer(5))) + one.call(answer(1))) == 6


def test_a_child_that_closes_the_portal_leaves_its_parents_loop_alone(one: Portal) -> None:
    def close() -> int:
        one.close()
        return 0

    one.call(answer())
    assert exit_code_of_child(close) == 0
    for number in range(50):
        assert one.call(answer(number), timeout=2) == number


def test_a_fork_in_the_midst_of_many_calls_finds_no_lock_held() -> None:
    lock = threading.Lock()

    async def guarded() -> int:
        with lock:
            time.sleep(0.02)  # without the loop's pause nearly every fork would come right here
        return 3

    stop = threading.Event()

    def call_on() -> int:
        calls = 0
        while not stop.is_set():
            busy.call(guarded())
            calls += 1
        return calls

    with Portal() as busy, ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call_on) for _ in range(2)]
        try:
            codes = [exit_code_of_child(lambda: busy.call(guarded())) for _ in range(5)]
        finally:
            stop.set()
        assert all(caller.result(5) > 0 for caller in callers)
    assert codes == [3] * 5


def double(number: int) -> int:
    with shared_portal() as shared:
        return shared.call(answer(number * 2))


def test_workers_of_a_forked_pool_call_too() -> None:
    with shared_portal() as shared:
        shared.call(answer())
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(double, range(8)).get(5) == [0, 2, 4, 6, 8, 10, 12, 14]


# -- storages


@pytest.fixture
async def place(engine: str, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty store on the test's parameter ``engine``."""
    async with place_on(engine, tmp_path) as found:
        yield found


def open_things() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


@ON_EVERY_ENGINE
def test_a_storage_serves_threads_a_running_loop_and_a_child_and_leaves_nothing_open(place: Place) -> None:
    before = open_things()
    with Portal() as one:
        storage = place.open()

        def save(name: str) -> str:
            return one.call(storage.save({"id": name, "type": "note", "data": {}}))

        async def inside() -> None:
            save("inside")

        def child() -> int:
            save("child")
            assert in_thread(one.call, storage.count({"id": {"$in": ["inside", "child"]}})) == 2
            one.call(storage.close())
            return 7

        with ThreadPoolExecutor(8) as pool:
            assert [*pool.map(save, map(str, range(32)))] == [*map(str, range(32))]
        asyncio.run(inside())
        assert exit_code_of_child(child) == 7
        save("parent")
        assert one.call(storage.count()) == 35
        assert one.call(storage.exists("child"))
        one.call(storage.close())
    assert open_things() == before


@ON_EVERY_ENGINE
def test_children_forked_in_the_midst_of_writing_write_too(place: Place) -> None:
    with Portal() as one, ThreadPoolExecutor(4) as pool:
        storage = place.open()
        stop = threading.Event()

        def save(name: str) -> None:
            one.call(storage.save({"id": name, "type": "note", "data": {}}))

        def save_on(name: str) -> int:
            number = 0
            while not stop.is_set():
                save(f"{name}-{number}")
                number += 1
            return number

        def child() -> int:
            save(f"child-{os.getpid()}")
            return 0

        writers = [pool.submit(save_on, f"writer{number}") for number in range(4)]
        try:
            assert [exit_code_of_child(child) for _ in range(5)] == [0] * 5
        finally:
            stop.set()
        written = sum(writer.result(20) for writer in writers)
        assert one.call(storage.count()) == written + 5
        one.call(storage.close())


def test_a_turn_that_somebody_in_the_parent_has_is_free_in_a_child(one: Portal) -> None:
    turns = Turns()

    def child() -> int:
        one.call(turns.take(1))
        return 0

    one.call(turns.take(1))
    assert exit_code_of_child(child) == 0
    assert not turns.take_now()


def test_a_child_waits_for_no_thread_that_was_opening_a_file_in_the_parent(one: Portal, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/store.db")
    guard = storage._engine._guard  # type: ignore[attr-defined]  # as a thread has it that the fork makes wait

    def child() -> int:
        one.call(storage.save({"id": "a", "type": "note", "data": {}}))
        return 0

    with guard:
        assert exit_code_of_child(child) == 0
    assert one.call(storage.count()) == 1
    one.call(storage.close())


STORAGE_NEVER_CLOSED = """
import sys, time, warnings
from unified_storage import open_storage
from unified_storage.portal import Portal

warnings.simplefilter("ignore", ResourceWarning)  # which is right: nobody closes it
one, storage = Portal().open(), open_storage(sys.argv[1])
one.call(storage.save({"id": "a", "type": "note", "data": {}}))
print(time.time())
"""


@ON_EVERY_ENGINE
def test_the_interpreter_exits_at_once_though_connections_are_open(place: Place) -> None:
    said = python(STORAGE_NEVER_CLOSED, place.address, timeout=20)
    assert time.time() - float(said) < 2


# -- the end of the interpreter

NEVER_CLOSED = """
import asyncio, threading
from unified_storage.portal import Portal

one = Portal().open()
print(one.call(asyncio.sleep(0, "done")))
"""


def test_the_interpreter_exits_at_once_though_nothing_was_closed() -> None:
    begun = time.monotonic()
    assert python(NEVER_CLOSED) == "done\n"
    assert time.monotonic() - begun < 2


STILL_CALLING = """
import asyncio, threading, time
from unified_storage.portal import Portal

one = Portal().open()
threading.Thread(target=one.call, args=(asyncio.sleep(60),), daemon=True).start()
time.sleep(0.2)
print("leaving")
"""


def test_the_interpreter_exits_in_the_midst_of_a_call() -> None:
    begun = time.monotonic()
    assert python(STILL_CALLING) == "leaving\n"
    assert time.monotonic() - begun < 2


AT_EXIT = """
import asyncio, atexit
from unified_storage.portal import Portal

one = Portal().open()
one.call(asyncio.sleep(0))
atexit.register(lambda: print(one.call(asyncio.sleep(0, "saved at exit"))))
"""


def test_a_call_at_exit_works() -> None:
    assert python(AT_EXIT) == "saved at exit\n"


CHILD_EXITS = """
import asyncio, os, sys
from unified_storage.portal import Portal

one = Portal().open()
one.call(asyncio.sleep(0))
child = os.fork()
if child == 0:
    print(one.call(asyncio.sleep(0, "child")))
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(one.call(asyncio.sleep(0, "parent")))
"""


def test_a_child_exits_the_ordinary_way() -> None:
    assert python(CHILD_EXITS) == "child\nparent\n"


def test_a_thread_that_cannot_be_started_is_said_clearly(one: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StorageClosedError, match="interpreter shutdown"):
        one.call(answer())


def test_the_portal_needs_nothing_that_the_package_does_not_load() -> None:
    root = Path(portal.__file__).parent.parent
    loaded = python(
        f"import sys; sys.path.insert(0, {str(root)!r}); import unified_storage.portal;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'sqlalchemy', 'sqlite3', 'rich', 'anyio'}))"
    )
    assert loaded == "\n"
