"""Runs the legacy program in one situation: ``python -m tests.legacy.situations SITUATION PLACE``.

Prints what the program says, and at last the seconds since 1970 at which nothing was left to do but to exit. The
store is never closed: the old interface has no word for it.
"""

import asyncio
import atexit
import gc
import multiprocessing
import os
import runpy
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

program = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "legacy_program.py"))
construct, run = program["construct"], program["run"]

store: Any = None  # global, as old programs have it, so that forked workers find it


def plain() -> None:
    say(run(store))


def in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        say(pool.submit(run, store).result())


def in_sixteen_threads() -> None:
    with ThreadPoolExecutor(16) as pool:
        reports = list(pool.map(lambda number: run(store, f"t{number}"), range(16)))
    say(reports[0])
    for number, report in enumerate(reports):
        assert [line.replace(f"t{number}-", "t0-") for line in report] == reports[0]


def inside_a_running_loop() -> None:
    async def main() -> None:
        say(run(store))

    asyncio.run(main())


def after_fork() -> None:
    say(run(store, "parent"))
    child = os.fork()
    if child == 0:
        say(run(store, "child"))
        check_seen("parent-airline")
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if sys.argv[2] not in ("memory", "memory://"):  # there a child has its own copy
        check_seen("child-airline")
    say(run(store, "parent"))


def in_forked_workers() -> None:
    say(run(store))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        reports = pool.map_async(worker, range(4)).get(10)
    assert len(reports) == 4


def worker(number: int) -> list[str]:
    report: list[str] = run(store, f"worker{number}")
    return report


def at_exit() -> None:
    atexit.register(plain)


def over_many_stores_that_are_dropped() -> None:
    global store
    store = None
    say(run(construct(sys.argv[2])))
    settle()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(20):
        run(construct(sys.argv[2]), f"n{number}")
    settle()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def settle() -> None:
    """Wait until the threads are gone that belong to no store any more."""
    gc.collect()
    end = time.monotonic() + 3
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.01)


def check_seen(session_id: str) -> None:
    assert store.get_session(session_id) is not None, (session_id, getattr(store, "last_error", None))


def say(lines: list[str]) -> None:
    print(*lines, sep="\n", flush=True)


SITUATIONS = {
    situation.__name__: situation
    for situation in (
        plain,
        in_a_thread,
        in_sixteen_threads,
        inside_a_running_loop,
        after_fork,
        in_forked_workers,
        at_exit,
        over_many_stores_that_are_dropped,
    )
}

if __name__ == "__main__":
    store = construct(sys.argv[2])
    SITUATIONS[sys.argv[1]]()
    print(f"nothing left {time.time()}", flush=True)
