"""One trial: programs that write all the time, a migration there and back, faults on the way, and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from legacy.file_store import FileSessionStore
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.passes import pass_in
from legacy.migration.live.runner import begin
from legacy.migration.live.state import ODD, OPEN, items_marked, migration_in
from legacy.migration.live.switching import settled
from legacy.migration.live.unified_side import held_in, session_id_in
from session_adapter.identity import SESSION
from tests.migration.history import Content, HistoryLog, Violation, check
from tests.migration.programs import GROUPS, content_of, document_of, sessions_of
from tests.support import REPOSITORY
from unified_storage import IUnifiedStorage, open_storage

THERE = (1, 2, 3, 4)
THERE_AND_BACK = (1, 2, 3, 2, 1, 2, 3)
STEPS = {
    "client": (
        "write:begun",
        "write:legacy-written",
        "write:released",
        "member:joined",
        "member:followed",
        "member:acknowledged",
        "member:looked",
    ),
    "runner": (
        "pass:items-read",
        "pass:legacy-read",
        "pass:batch-written",
        "pass:ends",
        "recover:taken-over",
        "recover:legacy-read",
        "recover:unified-read",
        "recover:legacy-written",
        "evict:journal-seen",
        "member:looked",
    ),
    "switch": ("switch:decided", "switch:done"),
}
"""Where a process of each kind is killed."""
STANDS_STILL = 3.0
"""Seconds for which a process is stopped."""


@dataclass
class Outcome:
    """What came of a trial.

    Attributes:
        wrong: what the histories and both stores say against each other.
        killed: which processes were killed or stopped, and where.
    """

    wrong: list[Violation]
    phase: int
    operations: int
    killed: list[str]
    ledger_closed: bool
    left_open: int
    seconds: float
    logs: str = ""


@dataclass
class Trial:
    """One run of everything, repeatable as far as processes are: *seed* decides on all that is chosen.

    Args:
        kills: how many processes are killed on the way.
        stops: how many processes stand still for three seconds on the way, while the phase changes.
    """

    folder: Path
    target: str
    seed: int
    sessions: int = 60
    clients: int = 3
    kills: int = 0
    stops: int = 0
    phases: Sequence[int] = THERE
    between: float = 0.4
    killed: list[str] = field(default_factory=list)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self) -> Outcome:
        begun = time.monotonic()
        self._random = random.Random(self.seed)
        initial = self._fill()
        asyncio.run(self._begin())
        to_kill, to_stop = (
            [self._random.randrange(len(self.phases)) for _ in range(count)] for count in (self.kills, self.stops)
        )
        try:
            for number in range(self.clients):
                self._start_client(f"c{number}")
            self._start("runner")
            for place, phase in enumerate(self.phases):
                self._go_to(phase, kills=to_kill.count(place), stops=to_stop.count(place))
            (self.folder / "stop").touch()
            self._end_clients()
            return asyncio.run(self._outcome(initial, begun))
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()

    # processes

    def _fill(self) -> dict[str, Content]:
        store = FileSessionStore(sessions_of(self.folder), strict=True)
        ids = [f"s{number}" for number in range(self.sessions)]
        (self.folder / "ids.json").write_text(json.dumps(ids + [f"new{number}" for number in range(GROUPS)]))
        contents = {id: Content(f"first-{id}", (f"first-{id}",)) for id in ids}
        for id, content in contents.items():
            store.save_session(id, document_of(id, content))
        return contents

    async def _begin(self) -> None:
        async with open_storage(self.target) as storage:
            await begin(storage, plan_hash="trial", source="files")

    def _start_client(self, name: str, **environment: str) -> None:
        self._start("client", name, "600", str(self._random.randrange(1 << 30)), **environment)

    def _start(self, kind: str, *rest: str, **environment: str) -> None:
        command = [sys.executable, "-m", "tests.migration.programs", kind, str(self.folder), self.target, *rest]
        log = (self.folder / f"{kind}-{'-'.join(rest[:1])}.log").open("ab")
        with log:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | environment, stderr=log, stdout=log)
        self._processes[rest[0] if kind == "client" else kind] = process

    def _kill_one(self) -> None:
        """Kill a process at a random moment or step, and start it again."""
        name = self._random.choice([*(f"c{number}" for number in range(self.clients)), "runner"])
        kind = "runner" if name == "runner" else "client"
        if self._random.random() < 0.5:
            time.sleep(self._random.random() * self.between)
            self._end(name, signal.SIGKILL)
            self.killed.append(f"{name} at random")
        else:
            step = f"{self._random.choice(STEPS[kind])}#{self._random.randrange(1, 5)}"
            self._end(name, signal.SIGKILL)
            self._again(name, DIE_AT=step)
            with_time = time.monotonic() + 3 * self.between + 1.0
            while self._processes[name].poll() is None and time.monotonic() < with_time:
                time.sleep(0.02)
            self._end(name, signal.SIGKILL)
            self.killed.append(f"{name} at {step}")
        self._again(name)

    def _stop_one(self) -> None:
        """Let a process stand still at a random moment or step; it goes on in three seconds."""
        name = self._random.choice([*(f"c{number}" for number in range(self.clients)), "runner"])
        place = "random"
        if self._random.random() < 0.5:
            self._processes[name].send_signal(signal.SIGSTOP)
        else:
            place = f"{self._random.choice(STEPS['runner' if name == 'runner' else 'client'])}#2"
            self._end(name, signal.SIGKILL)
            self._again(name, SLEEP_AT=place)
            with_time = time.monotonic() + 3 * self.between + 1.0
            while not _stands_still(self._processes[name]) and time.monotonic() < with_time:
                time.sleep(0.02)
        self.killed.append(f"{name} stopped at {place}")
        threading.Thread(target=_go_on, args=[self._processes[name]], daemon=True).start()

    def _again(self, name: str, **environment: str) -> None:
        if name == "runner":
            self._start("runner", **environment)
        else:
            self._start_client(name, **environment)

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self._processes[name]
        process.send_signal(how)
        process.wait()
        if name != "runner":
            with HistoryLog(self.folder / "history-observer.log", "observer") as log:
                log.died(f"{name}-{process.pid}")

    def _end_clients(self) -> None:
        for number in range(self.clients):
            process = self._processes[f"c{number}"]
            assert process.wait(60) == 0, (self.folder / f"client-c{number}.log").read_text()[-3000:]

    # phases

    def _go_to(self, phase: int, *, kills: int, stops: int) -> None:
        time.sleep(self.between)
        for _ in range(stops):
            self._stop_one()
        for _ in range(kills):
            self._kill_one()
        end = time.monotonic() + 120
        while not self._switched(phase):
            assert time.monotonic() < end, f"phase {phase} is not reached: {self._logs()}"
            time.sleep(0.05)

    def _switched(self, phase: int) -> bool:
        environment = {}
        if self.kills and self._random.random() < 0.15:
            environment["DIE_AT"] = self._random.choice(STEPS["switch"])
        self._start("switch", str(phase), **environment)
        code = self._processes["switch"].wait()
        if code < 0:
            self.killed.append(f"switch to {phase} at {environment.get('DIE_AT')}")
        return code == 0 or asyncio.run(self._is(phase))

    async def _is(self, phase: int) -> bool:
        async with open_storage(self.target) as storage:
            return (await migration_in(storage)).phase == phase and await settled(storage, timeout=30)

    def _logs(self) -> str:
        return "\n".join(f"{file.name}: {file.read_text()[-1500:]}" for file in sorted(self.folder.glob("*.log")))[
            -6000:
        ]

    # the end

    async def _outcome(self, initial: dict[str, Content], begun: float) -> Outcome:
        async with open_storage(self.target) as storage:
            left = await self._nothing_open(storage)
            migration, state = await migration_in(storage), await pass_in(storage)
            legacy = await self._legacy_content()
            unified = await self._unified_content(storage)
        histories = sorted(self.folder.glob("history-*.log"))
        wrong = check(histories, legacy, unified, migration.phase, initial=initial)
        lines = sum(file.read_bytes().count(b"\n") for file in histories)
        seconds = time.monotonic() - begun
        return Outcome(
            wrong, migration.phase, lines // 2, self.killed, state.ledger.is_closed, left, seconds, self._logs()
        )

    async def _nothing_open(self, storage: IUnifiedStorage) -> int:
        """How many writes are still open when the run has had its time to end them."""
        for _ in range(300):
            items = await items_marked(storage, OPEN, ODD)
            if not items:
                return 0
            await asyncio.sleep(0.1)
        return len(items)

    async def _legacy_content(self) -> dict[str, Content]:
        side = LegacySide(FileSessionStore(sessions_of(self.folder)))
        found = {id: content_of(await side.get(id)) for id in await side.ids()}
        return {id: content for id, content in found.items() if content is not None}

    async def _unified_content(self, storage: IUnifiedStorage) -> dict[str, Content]:
        heads = await storage.list({"type": SESSION}, with_data=False)
        held = await held_in(storage, [id for head in heads if (id := session_id_in(head)) is not None])
        found = {id: content_of(one.document) for id, one in held.items()}
        return {id: content for id, content in found.items() if content is not None}


def _go_on(process: subprocess.Popen[bytes]) -> None:
    """Let *process* go on when it has stood still long enough, however late it came to stop."""
    while process.poll() is None and not _stands_still(process):
        time.sleep(0.02)
    time.sleep(STANDS_STILL)
    process.send_signal(signal.SIGCONT)


def _stands_still(process: subprocess.Popen[bytes]) -> bool:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return False  # it has ended
