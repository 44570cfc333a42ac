"""The processes of a migration under test: programs that use the sessions, the run beside them, a change of phase.

    python -m tests.migration.programs client FOLDER TARGET NAME SECONDS SEED
    python -m tests.migration.programs runner FOLDER TARGET
    python -m tests.migration.programs switch FOLDER TARGET PHASE

``DIE_AT=write:legacy-written#7`` kills the process, as kill -9 does, when it comes to that step for the seventh time;
``SLEEP_AT=...`` stops it there until somebody sends SIGCONT. Sessions are the clients' in turns: whoever holds the lock
of a group of ids writes them, and kill -9 lets go of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from legacy import LegacySessionStoreAdapter
from legacy.file_store import FileSessionStore
from legacy.migration.live import MigratingSessionService, steps
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.passes import Guard
from legacy.migration.live.phases import Phase
from legacy.migration.live.runner import Runner
from legacy.migration.live.switching import settled, switch
from tests.migration.history import Content, HistoryLog
from unified_storage import open_storage

GROUPS = 12
POLL = 0.1
NO_GUARD = Guard(max_deleted=1_000_000)
REFUSED = 2


def sessions_of(folder: Path) -> Path:
    return folder / "sessions"


def document_of(id: str, content: Content) -> dict[str, Any]:
    """A session that holds *content*, as old programs save it."""
    messages = [{"role": "user", "content": event} for event in content.events]
    return {
        "metadata": {"session_id": id, "status": "active"},
        "value": content.value,
        "workflow_state": {"messages": messages},
    }


def content_of(document: dict[str, Any] | None) -> Content | None:
    """What a session holds; None for none."""
    if document is None:
        return None
    return Content(document["value"], tuple(one["content"] for one in document["workflow_state"]["messages"]))


class Client:
    """One program on the old interface, which writes down what it does."""

    def __init__(self, folder: Path, target: str, name: str, seed: int) -> None:
        self._folder = folder
        self._name = name
        self._random = random.Random(seed)
        service = MigratingSessionService(
            FileSessionStore(sessions_of(folder)),
            target,
            journal=folder / "journals",
            member=f"{name}-{os.getpid()}",
            poll_interval=POLL,
            shadow_share=1.0,
        )
        self._store = LegacySessionStoreAdapter(service, strict=True, missing_delete_returns=True)
        self._made = 0

    def run(self, seconds: float) -> None:
        """Until time is up, or a file ``stop`` is there."""
        end = time.monotonic() + seconds
        ids = json.loads((self._folder / "ids.json").read_bytes())
        with HistoryLog(self._folder / f"history-{self._name}-{os.getpid()}.log", f"{self._name}-{os.getpid()}") as log:
            while time.monotonic() < end and not (self._folder / "stop").exists():
                group = self._random.randrange(GROUPS)
                with _turn(self._folder, group) as mine:
                    if mine:
                        for _ in range(self._random.randrange(1, 6)):
                            self._act(log, self._random.choice(ids[group::GROUPS]))

    def _act(self, log: HistoryLog, id: str) -> None:
        with suppress(Exception):
            found = self._get(log, id)
            if self._random.random() < 0.12:
                with log.operation("delete", id):
                    self._store.delete_session(id)
            elif self._random.random() < 0.85:
                self._save(log, id, found)

    def _get(self, log: HistoryLog, id: str) -> Content | None:
        with log.operation("get", id) as call:
            call.found = content_of(self._store.get_session(id))
        return call.found

    def _save(self, log: HistoryLog, id: str, found: Content | None) -> None:
        self._made += 1
        value = f"{self._name}-{os.getpid()}-{self._made}"
        events = () if found is None else found.events[-5:]
        content = Content(value, (*events, value))
        with log.operation("save", id, content):
            self._store.save_session(id, document_of(id, content))


@contextmanager
def _turn(folder: Path, group: int) -> Iterator[bool]:
    """Whether this process may write the ids of *group* inside; another one may not then."""
    descriptor = os.open(folder / f"turn-{group}", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


async def look_after(folder: Path, target: str) -> None:
    """``migrate run``, until it is killed or everybody uses the target alone."""
    async with open_storage(target) as storage:
        legacy = LegacySide(FileSessionStore(sessions_of(folder)))
        await Runner(storage, legacy, None, guard=NO_GUARD, seen_file=folder / "seen.json").run()


async def change_phase(target: str, phase: Phase) -> int:
    async with open_storage(target) as storage:
        try:
            await switch(storage, phase)
        except GateRefusedError as error:
            print(error.message, file=sys.stderr)
            return REFUSED
        return 0 if await settled(storage, timeout=60) else REFUSED


def _die_or_sleep() -> None:
    """Do what the environment says at the step that it names."""
    wanted = {name: os.environ.get(name, "").partition("#") for name in ("DIE_AT", "SLEEP_AT")}
    seen: Counter[str] = Counter()

    def at(step: str) -> None:
        seen[step] += 1
        for name, (place, _, times) in wanted.items():
            if place == step and seen[step] == int(times or 1):
                os.kill(os.getpid(), signal.SIGKILL if name == "DIE_AT" else signal.SIGSTOP)

    steps.set_hook(at)


def main(kind: str, folder: str, target: str, *rest: str) -> int:
    _die_or_sleep()
    if kind == "client":
        name, seconds, seed = rest
        Client(Path(folder), target, name, int(seed)).run(float(seconds))
        return 0
    if kind == "runner":
        asyncio.run(look_after(Path(folder), target))
        return 0
    return asyncio.run(change_phase(target, Phase(int(rest[0]))))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
