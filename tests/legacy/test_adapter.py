"""The old interface over asynchronous services: what it answers, what it raises, what it leaves
behind (S2.2-S2.6, S2.44-S2.47; T2.1, T2.2, T2.12, T2.13)."""

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from legacy import ISessionStore, LegacySessionStoreAdapter
from session_adapter import ISessionService, SessionNotFoundError, SessionService, SessionStorageAdapter
from tests.places import EMBEDDED, ON_DISK, SERVERS, SQL, engines, place_on
from unified_storage import (
    IUnifiedStorage,
    StorageClosedError,
    StorageConfigurationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    open_storage,
)
from unified_storage.portal import WouldDeadlockError, shared_portal

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.timeout(60)


class Service:
    """A session service of somebody else: exactly the six methods, over a dict; *broken* is raised by all of them."""

    def __init__(self, broken: BaseException | None = None) -> None:
        self.broken = broken
        self.sessions: dict[str, dict[str, Any]] = {}
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def _begin(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken

    async def save_session(self, session_id: str, session_data: dict[str, Any]) -> None:
        await self._begin()
        self.sessions[session_id] = session_data

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        await self._begin()
        return self.sessions.get(session_id)

    async def delete_session(self, session_id: str) -> None:
        await self._begin()
        if self.sessions.pop(session_id, None) is None:
            raise SessionNotFoundError(f"no session {session_id!r}")

    async def list_sessions(self, filters: Any = None, limit: int | None = None) -> list[dict[str, Any]]:
        await self._begin()
        return list(self.sessions.values())

    async def session_exists(self, session_id: str) -> bool:
        await self._begin()
        return session_id in self.sessions

    async def update_session(self, session_id: str, updates: dict[str, Any]) -> None:
        await self._begin()


class SlowService(Service):
    """Answers after *seconds*; counts what was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.cancelled = 0

    async def _begin(self) -> None:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "save_session": (lambda store: store.save_session("s1", {}), False),
    "get_session": (lambda store: store.get_session("s1"), None),
    "delete_session": (lambda store: store.delete_session("s1"), False),
    "list_sessions": (lambda store: store.list_sessions(), []),
    "session_exists": (lambda store: store.session_exists("s1"), False),
}


@pytest.fixture(params=engines(*EMBEDDED, *SERVERS))
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A store on every engine."""
    async with place_on(request.param, tmp_path) as place:
        yield place.address


@pytest.fixture(params=engines(*ON_DISK))
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A store on every engine that keeps what it is given, for other processes too."""
    async with place_on(request.param, tmp_path) as place:
        yield place.address


@pytest.fixture
def store(url: str) -> Iterator[LegacySessionStoreAdapter]:
    with LegacySessionStoreAdapter(url) as opened:
        yield opened


# -- failures


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_gives_the_empty_answer_and_is_recorded_told_and_logged_once(call: str, caplog) -> None:
    work, empty = CALLS[call]
    failure = StorageConnectionError("the server is away")
    told: list[Exception] = []
    with LegacySessionStoreAdapter(Service(failure), on_error=told.append) as store:
        assert work(store) == empty
        assert store.last_error is failure
        assert told == [failure]
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(records) == 1
    assert (records[0].__dict__["verb"], records[0].__dict__["error"]) == (call, "StorageConnectionError")


@pytest.mark.parametrize("call", CALLS)
def test_strict_raises_the_failure(call: str) -> None:
    failure = StorageConnectionError("the server is away")
    with LegacySessionStoreAdapter(Service(failure), strict=True) as store:
        with pytest.raises(StorageConnectionError) as caught:
            CALLS[call][0](store)
        assert caught.value is failure is store.last_error


@pytest.mark.parametrize("call", CALLS)
def test_a_services_odd_failure_is_one_too(call: str) -> None:
    with LegacySessionStoreAdapter(Service(OSError("odd"))) as store:
        assert CALLS[call][0](store) == CALLS[call][1]
        assert isinstance(store.last_error, OSError)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("call", CALLS)
def test_interruption_and_cancellation_are_never_held_back(call: str, kind: type[BaseException], strict: bool) -> None:
    with LegacySessionStoreAdapter(Service(kind()), strict=strict) as store:
        with pytest.raises(kind):
            CALLS[call][0](store)
        assert store.last_error is None


def test_an_outage_is_told_from_an_absent_session() -> None:
    """S2.3."""
    service = Service()
    with LegacySessionStoreAdapter(service) as store:
        assert store.get_session("s1") is None
        assert store.last_error is None
        service.broken = StorageConnectionError("away")
        assert store.get_session("s1") is None
        assert store.last_error is service.broken
        service.broken = None
        assert store.get_session("s1") is None
        assert store.last_error is None


def test_what_on_error_raises_the_call_raises() -> None:
    def complain(error: Exception) -> NoReturn:
        raise ZeroDivisionError from error

    with LegacySessionStoreAdapter(Service(OSError()), on_error=complain) as store, pytest.raises(ZeroDivisionError):
        store.get_session("s1")


def test_the_log_names_no_session_and_no_content(caplog) -> None:
    with LegacySessionStoreAdapter(Service(StorageError("broken"))) as store:
        store.save_session("secret-id", {"text": "secret text"})
    assert "secret" not in caplog.text


# -- deleting


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("answer", [False, True])
def test_deleting_a_missing_session_answers_what_was_asked_for(url: str, answer: bool, strict: bool) -> None:
    """S2.4."""
    with LegacySessionStoreAdapter(url, missing_delete_returns=answer, strict=strict) as store:
        assert store.delete_session("nobody") is answer
        assert store.last_error is None


def test_the_default_for_a_missing_session_is_false(store: LegacySessionStoreAdapter) -> None:
    assert store.delete_session("nobody") is False


# -- only sessions


async def test_a_record_of_another_type_is_no_session(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mixed.db"
    async with open_storage(url) as storage:
        await storage.save({"id": "t1", "type": "thread", "data": {"a": 1}})

    def use() -> list[Any]:
        with LegacySessionStoreAdapter(url, strict=True) as store:
            return [
                store.session_exists("t1"),
                store.get_session("t1"),
                store.delete_session("t1"),
                store.list_sessions(),
            ]

    assert await asyncio.to_thread(use) == [False, None, False, []]
    async with open_storage(url) as storage:
        assert await storage.exists("t1", type="thread")


# -- listing


class Clock:
    """A clock that stands still between two looks of the test."""

    def __init__(self) -> None:
        self.now = datetime(2025, 6, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's zone is UTC: the samples' times name none."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def legacy_samples() -> dict[str, dict[str, Any]]:
    folder = Path(__file__).parents[1] / "samples" / "legacy_files"
    return {file.stem: json.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))}


@pytest.mark.parametrize("listing", ["summary", "full"])
@pytest.mark.parametrize("kind", [SessionService, SessionStorageAdapter, lambda storage: storage])
def test_the_listing_is_that_of_the_golden_file(kind: Any, listing: Any, in_utc: None) -> None:
    """S2.5."""
    clock = Clock()
    with LegacySessionStoreAdapter(kind(open_storage("memory://", clock=clock)), listing=listing, strict=True) as store:
        for session_id, document in (legacy_samples() | {"plain": {"anything": 1}}).items():
            clock.now += timedelta(minutes=1)
            store.save_session(session_id, document)
        listed = store.list_sessions()
    assert listed == json.loads((GOLDEN / f"{listing}.json").read_bytes())


def test_a_foreign_services_documents_are_summed_up_as_they_are() -> None:
    service = Service()
    service.sessions = {"a": {"metadata": {"session_id": "a", "status": "failed", "updated_at": "2024-01-01"}}, "b": {}}
    with LegacySessionStoreAdapter(service) as store:
        assert store.list_sessions() == [
            {
                "session_id": "a",
                "workflow_config_path": None,
                "created_at": None,
                "updated_at": "2024-01-01",
                "status": "failed",
            },
            {
                "session_id": None,
                "workflow_config_path": None,
                "created_at": None,
                "updated_at": None,
                "status": "unknown",
            },
        ]


def test_a_listing_longer_than_a_page_is_complete_and_newest_first(store: LegacySessionStoreAdapter) -> None:
    for number in range(1_050):
        assert store.save_session(f"s{number:04}", {"n": number})
    assert [facts["session_id"] for facts in store.list_sessions()] == [f"s{n:04}" for n in reversed(range(1_050))]


def test_an_unknown_kind_of_listing_is_refused() -> None:
    with pytest.raises(ValueError, match="summary"):
        LegacySessionStoreAdapter("memory://", listing="short")  # type: ignore[arg-type]


# -- what it is given


def test_it_takes_a_service_a_storage_or_a_url() -> None:
    storage = open_storage("memory://")
    for served in (Service(), SessionService(storage), SessionStorageAdapter(storage), storage, "memory://"):
        with LegacySessionStoreAdapter(served) as store:
            assert isinstance(store, ISessionStore)
            assert store.save_session("s1", {"a": 1})
            found = store.get_session("s1")
            assert found is not None
            assert found["a"] == 1


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        LegacySessionStoreAdapter("memory://", timeout=timeout)


@pytest.mark.parametrize("served", [None, 7, object(), {"url": "memory://"}])
def test_anything_else_is_refused_at_once(served: Any) -> None:
    with pytest.raises(TypeError, match="URL"):
        LegacySessionStoreAdapter(served)


def test_a_wrong_url_is_refused_at_once_and_leaves_nothing_open() -> None:
    before = threading.active_count()
    with pytest.raises(StorageConfigurationError):
        LegacySessionStoreAdapter("nonsense://place")
    assert threading.active_count() == before


def test_all_calls_of_all_threads_reach_the_service_on_one_loop() -> None:
    service = Service()

    async def inside() -> None:
        assert shared.session_exists("s1")

    with LegacySessionStoreAdapter(service) as shared, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda number: shared.save_session(f"s{number}", {}), range(64)))
        asyncio.run(inside())
    assert len(service.loops) == 1


def test_inside_a_running_loop_a_save_is_a_save(url: str) -> None:
    async def program() -> dict[str, Any] | None:
        with LegacySessionStoreAdapter(url, strict=True) as store:
            assert store.save_session("s1", {"settings": {"a": 1}}) is True
            return store.get_session("s1")

    found = asyncio.run(program())
    assert found is not None
    assert found["settings"] == {"a": 1}


def test_a_call_from_the_portals_own_loop_raises_also_in_compatible_mode() -> None:
    class Nested(Service):
        async def session_exists(self, session_id: str) -> bool:
            return outer.get_session(session_id) is not None

    with LegacySessionStoreAdapter(Nested()) as outer, pytest.raises(WouldDeadlockError):
        outer.session_exists("s1")


# -- time-outs and interruption


def test_a_slow_service_is_given_up_after_the_timeout() -> None:
    service = SlowService(60)
    begun = time.monotonic()
    with LegacySessionStoreAdapter(service, timeout=0.1) as store:
        assert store.get_session("s1") is None
        assert isinstance(store.last_error, StorageTimeoutError)
    assert time.monotonic() - begun < 2
    assert service.cancelled == 1


def test_a_service_within_its_timeout_is_waited_for() -> None:
    with LegacySessionStoreAdapter(SlowService(0.2), timeout=5, strict=True) as store:
        assert store.session_exists("s1") is False


CTRL_C = """
import signal, sys, threading, os
from legacy import LegacySessionStoreAdapter
from session_adapter.sessions import SessionStorageAdapter
from unified_storage import open_storage
import asyncio

signal.signal(signal.SIGINT, signal.default_int_handler)

class Slow(SessionStorageAdapter):
    async def save_session(self, *arguments, **options):
        try:
            print("saving", flush=True)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

store = LegacySessionStoreAdapter(Slow(open_storage("memory://")))
try:
    print(store.save_session("s1", {}))
except KeyboardInterrupt:
    print("interrupted", store.last_error, flush=True)
"""


def test_ctrl_c_goes_through_and_cancels_what_ran() -> None:
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "saving\n"
            time.sleep(0.5)  # until the caller waits for it
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=5)[0] == "cancelled\ninterrupted None\n"
        finally:
            program.kill()
    assert program.returncode == 0


CTRL_C_AT_A_LOCK = """
import signal, sys
from legacy import LegacySessionStoreAdapter

signal.signal(signal.SIGINT, signal.default_int_handler)
store = LegacySessionStoreAdapter(sys.argv[1])
print(store.save_session("s1", {"n": 1}), flush=True)
sys.stdin.readline()
try:
    print(store.save_session("s1", {"n": 2}), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
print(store.get_session("s1")["n"], store.save_session("s1", {"n": 3}), store.get_session("s1")["n"], flush=True)
"""


@pytest.mark.parametrize("engine", engines(*SQL))
async def test_ctrl_c_ends_a_call_that_waits_for_a_lock_and_the_store_goes_on(engine: str, tmp_path: Path) -> None:
    async with place_on(engine, tmp_path) as place:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CTRL_C_AT_A_LOCK, place.address),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert await program.stdout.readline() == b"True\n"
            async with place.open() as storage, storage.transaction() as tx:
                await tx.update("s1", {"metadata": None}, type="session")
                program.stdin.write(b"\n")
                await asyncio.sleep(0.5)  # until the call waits for the lock
                program.send_signal(signal.SIGINT)
                begun = time.monotonic()
                assert await program.stdout.readline() == b"interrupted\n"
                assert time.monotonic() - begun < 3
            program.stdin.write(b"\n")
            assert await program.stdout.readline() == b"1 True 3\n"
        finally:
            if program.returncode is None:
                program.kill()
            await program.wait()


# -- closing


def open_things() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def use(store: LegacySessionStoreAdapter) -> None:
    assert store.save_session("s1", {"a": 1}), store.last_error
    assert store.session_exists("s1")


def test_closing_leaves_no_thread_and_no_descriptor(url: str) -> None:
    before = open_things()
    for _ in range(10):
        with LegacySessionStoreAdapter(url) as store:
            use(store)
    assert open_things() == before


def test_closing_again_is_fine_and_later_calls_fail_clearly(url: str) -> None:
    store = LegacySessionStoreAdapter(url)
    use(store)
    store.close()
    store.close()
    assert store.save_session("s2", {}) is False
    assert isinstance(store.last_error, StorageClosedError)


def test_a_store_that_was_never_used_is_closed_too(url: str) -> None:
    before = open_things()
    LegacySessionStoreAdapter(url).close()
    assert open_things() == before


def test_a_dropped_store_is_closed_all_the_same(url: str) -> None:
    gc.collect()
    before = open_things()
    for _ in range(10):
        use(LegacySessionStoreAdapter(url))
    gc.collect()
    end = time.monotonic() + 5
    while open_things() != before and time.monotonic() < end:
        time.sleep(0.01)
    assert open_things() == before


def test_what_was_given_is_not_closed(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/mine.db")
    with LegacySessionStoreAdapter(storage) as store:
        use(store)

    async def mine() -> bool:
        async with storage:
            return await storage.exists("s1", type="session")

    assert asyncio.run(mine()) is True


def test_one_store_that_closes_does_not_disturb_another(url: str) -> None:
    with LegacySessionStoreAdapter(url) as stays:
        with LegacySessionStoreAdapter(url) as goes:
            use(goes)
        use(stays)


def test_closing_ends_the_calls_of_other_threads() -> None:
    service = SlowService(60)
    store = LegacySessionStoreAdapter(service)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: (store.get_session("s1"), store.last_error))
        time.sleep(0.2)
        store.close()
        found, error = call.result(5)
    assert found is None
    assert isinstance(error, StorageClosedError)


# -- fork


def exit_code_of_child(work: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(5)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_reads_and_writes_what_its_parent_reads_and_writes(kept: str) -> None:
    with LegacySessionStoreAdapter(kept, strict=True) as store:
        store.save_session("parent", {"n": 1})

        def child() -> int:
            assert store.session_exists("parent")
            store.save_session("child", {"n": 2})
            store.close()
            return 7

        assert exit_code_of_child(child) == 7
        found = store.get_session("child")
        assert found is not None
        assert found["n"] == 2
        use(store)


def test_a_child_has_a_copy_of_what_is_in_memory() -> None:
    with LegacySessionStoreAdapter("memory://", strict=True) as store:
        store.save_session("parent", {"n": 1})

        def child() -> int:
            store.save_session("child", {"n": 2})
            return 7 if store.session_exists("parent") else 1

        assert exit_code_of_child(child) == 7
        assert store.session_exists("parent")
        assert not store.session_exists("child")


def test_a_child_that_drops_or_closes_the_store_leaves_its_parents_alone(url: str) -> None:
    with LegacySessionStoreAdapter(url, strict=True) as store:
        use(store)
        store.save_session("before", {})

        def child() -> int:
            store.close()
            gc.collect()
            return 5

        assert exit_code_of_child(child) == 5
        assert store.session_exists("before")
        use(store)


# -- at exit

LATE = """
import atexit, sys

def late():
    print(store.save_session("late", {}), type(store.last_error).__name__)

if sys.argv[2] == "before":
    atexit.register(late)
from legacy import LegacySessionStoreAdapter
store = LegacySessionStoreAdapter(sys.argv[1])
assert store.save_session("s1", {})
if sys.argv[2] == "after":
    atexit.register(late)
"""


@pytest.mark.parametrize(("registered", "said"), [("after", "True NoneType"), ("before", "False StorageClosedError")])
def test_a_call_at_exit_works_or_fails_clearly(url: str, registered: str, said: str) -> None:
    command = [sys.executable, "-c", LATE, url, registered]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == f"{said}\n"
    assert done.stderr == (
        "" if registered == "after" else "session store: save_session failed: this storage was closed\n"
    )


NEVER_CLOSED = """
import sys, time
from legacy import LegacySessionStoreAdapter
stores = [LegacySessionStoreAdapter(sys.argv[1]) for _ in range(3)]
assert all(store.save_session(f"s{number}", {}) for number, store in enumerate(stores))
print(time.time())
"""


def test_storages_that_were_not_closed_are_closed_at_exit(kept: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", NEVER_CLOSED, kept]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert time.time() - float(done.stdout) < 2
    assert done.stderr == ""
    if kept.startswith("sqlite"):
        assert os.listdir(tmp_path) == ["store.db"], "a closed SQLite file has taken its log in"


STUCK = """
import asyncio, time
from legacy import LegacySessionStoreAdapter
from unified_storage import open_storage, register_backend
from unified_storage.delegate import Delegate

class Stuck(Delegate):
    async def close(self):
        await asyncio.sleep(60)

register_backend("stuck", lambda url, **options: Stuck(open_storage("memory://")))
stores = [LegacySessionStoreAdapter("stuck://") for _ in range(3)]
assert all(store.save_session("s1", {}) for store in stores)
print(time.time())
"""


def test_storages_that_do_not_close_do_not_hold_up_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=20, check=True)
    assert time.time() - float(done.stdout) < 2
    assert "was not closed at exit" in done.stderr


# -- the types


def test_a_structural_service_is_one() -> None:
    service: ISessionService = Service()
    assert isinstance(service, ISessionService)
    assert not isinstance(open_storage("memory://"), ISessionService)
    assert isinstance(open_storage("memory://"), IUnifiedStorage)


def test_no_portal_is_left_open_by_these_tests() -> None:
    gc.collect()
    with pytest.raises(StorageClosedError):
        shared_portal().call(asyncio.sleep(0))
