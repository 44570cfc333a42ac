"""Programs of a migration whose every step a test decides: when they look, where they stop, when they are dead."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.file_store import FileSessionStore
from legacy.migration.live.changes import Change, Delete, Save
from legacy.migration.live.evicting import dead_members, evict_dead
from legacy.migration.live.failures import GateRefusedError
from legacy.migration.live.intents import is_abandoned
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.member import Member, Ticket
from legacy.migration.live.passes import Pass, PhaseLeftError, pass_in
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import Rules
from legacy.migration.live.state import ODD, OPEN, items_marked, members_in, migration_in
from legacy.migration.live.switching import switch
from legacy.migration.live.upkeep import Upkeep
from legacy.migration.live.writer import Writer
from session_adapter.service import SessionService
from tests.migration.stores import Stores, document
from unified_storage import StorageConnectionError
from unified_storage.processes import this_process
from unified_storage.testing.faults import FaultyStorage

_SECONDS = 10


class Gate:
    """A place where a thread waits until it is let through."""

    def __init__(self) -> None:
        self._entered, self._opened = threading.Event(), threading.Event()

    def wait(self) -> None:
        """Called by the thread."""
        self._entered.set()
        assert self._opened.wait(_SECONDS), "nobody opened the gate"

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, _SECONDS), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class Files(FileSessionStore):
    """Session files at which whoever uses them can be held up.

    Attributes:
        away: every call fails.
        misses: so many times a session is not found, and nothing says that something failed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = False
        self.misses = 0
        self._gates: dict[str, Gate] = {}

    def hold(self, moment: str) -> Gate:
        """A gate for the next call that comes to *moment*: ``before save``, ``after get``."""
        gate = self._gates[moment] = Gate()
        return gate

    def let_all_through(self) -> None:
        for gate in self._gates.values():
            gate.open()

    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        self._come_to("before save")
        saved = super().save_session(session_id, session_data)
        self._come_to("after save")
        return saved

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        self._come_to("before get")
        found = super().get_session(session_id)
        self._come_to("after get")
        if self.misses:
            self.misses -= 1
            return None
        return found

    def delete_session(self, session_id: str) -> bool:
        self._come_to("before delete")
        return super().delete_session(session_id)

    def _come_to(self, moment: str) -> None:
        if self.away:
            raise OSError("the legacy store is away")
        if (gate := self._gates.get(moment)) is not None:
            gate.wait()


class Program:
    """A program whose process can die: another one that does nothing stands for it."""

    def __init__(self, stores: Stores, name: str, rules: Rules) -> None:
        self.files = Files(stores.folder / "sessions")
        self.target = FaultyStorage(stores.storage)
        self.journals = stores.folder / f"journals-{name}"
        side = LegacySide(self.files)
        side.keeps_exactly = True
        self.side = side
        self.member = Member(self.target, name=name, journal=self.journals, rules=rules)
        self._process = subprocess.Popen(["sleep", "600"])
        self.member.tell(process=_shown(self._process.pid))
        self.recovery = Recovery(self.target, side, None, self.member.me, rules)
        self.writer = Writer(self.target, side, self.member, self.recovery, None, rules)
        self._upkeep = Upkeep(self.target, self.member, self.writer, 1.0)
        self._rules = rules
        self._under_way: list[asyncio.Task[None]] = []

    # a program's life

    async def start(self) -> Program:
        """Join, and serve by the phase that it finds."""
        await self.member.join()
        for _ in range(20):
            if self.member.is_serving:
                return self
            await self.upkeep()
        raise AssertionError("the program does not come to serve")

    async def look(self) -> None:
        """Follow the migration, and do nothing else."""
        await self.member.look()

    async def upkeep(self) -> None:
        """All that a program does in the background, once."""
        await self._upkeep.once()

    def lose_target(self) -> None:
        self.target.fail("*", StorageConnectionError("the target is away"), call=None)

    def kill(self) -> None:
        """Kill -9: what it was doing never goes on, and its lock on the journal is gone."""
        self._process.kill()
        self._process.wait()
        self.lose_target()
        if self.member.journal is not None:
            self.member.journal.close()
            self.member.journal = None

    async def leave(self) -> None:
        """End as programs do."""
        await self.member.leave()
        self.member.journal = None
        self._process.kill()
        self._process.wait()

    async def end(self) -> None:
        """After the test: let everything go."""
        self.files.let_all_through()
        for task in self._under_way:
            with suppress(BaseException):
                await asyncio.wait_for(task, _SECONDS)
        self.kill()
        await self.side.close()

    # what callers do

    async def save(self, value: str, id: str = "s") -> None:
        await self._write(Save(id, document(id, value=value)))

    async def delete(self, id: str = "s") -> None:
        await self._write(Delete(id))

    def saving(self, value: str, id: str = "s") -> asyncio.Task[None]:
        """A save that has begun; a gate stops it somewhere."""
        return self._begun(self.save(value, id))

    def begin_to_save(self, value: str) -> None:
        """A save that never ends, as the program will be killed."""
        self._under_way.append(asyncio.ensure_future(self.save(value)))

    def deleting(self, id: str = "s") -> asyncio.Task[None]:
        return self._begun(self.delete(id))

    async def seen(self, id: str = "s") -> str | None:
        """The value that a reader gets from this program; None for no session."""
        if self.member.phase.reads_legacy:
            found = await self.side.get(id)
        else:
            found = await SessionService(self.target).get_session(id)
        return None if found is None else str(found["value"])

    def _begun(self, writing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(writing)
        self._under_way.append(task)
        return task

    async def _write(self, change: Change) -> None:
        ticket = Ticket(self.member)
        try:
            await self.writer.write(change, ticket)
        finally:
            ticket.end()

    # what the run does

    async def copy(self) -> None:
        """One pass, where the phase is one for it."""
        with suppress(PhaseLeftError):
            await Pass(self.target, self.side, self.recovery, None, self._rules).run()

    def copying(self) -> asyncio.Task[None]:
        return self._begun(self.copy())


@dataclass
class Play:
    """A story of some programs, told by the rules that it is given.

    Attributes:
        run: what ``migrate run`` does, step by step; it is no member.
    """

    stores: Stores
    rules: Rules
    programs: list[Program] = field(default_factory=list)

    @property
    def run(self) -> Program:
        if not self.programs:
            self._new("run")
        return self.programs[0]

    async def program(self, name: str) -> Program:
        """One more program, which has joined."""
        assert self.run
        return await self._new(name).start()

    def _new(self, name: str) -> Program:
        program = Program(self.stores, name, self.rules)
        self.programs.append(program)
        return program

    def given(self, *ids: str, value: str = "op0") -> None:
        """Sessions that were there before the migration."""
        for id in ids or ("s",):
            self.stores.legacy.save_session(id, document(id, value=value))

    async def to(self, phase: Phase, *looking: Program) -> bool:
        """Change the phase unless that is refused, and let these programs follow; whether it changed."""
        try:
            await switch(self.stores.storage, phase, rules=self.rules)
        except GateRefusedError:
            return False
        for program in looking:
            await program.look()
        return True

    async def forward(self, phase: Phase, *programs: Program) -> None:
        """To *phase* with the pass that it takes, while nobody does anything."""
        for step in list(Phase)[1 : phase + 1]:
            assert await self.to(step, *programs)
            if step == Phase.DUAL_WRITE:
                await self.run.copy()

    async def look_after(self, *looking: Program) -> None:
        """What the run does again and again: dead members, abandoned writes, suspects, a pass that counts."""
        storage = self.stores.storage
        for dead in await dead_members(storage):
            await evict_dead(storage, dead, rules=self.rules)
        for program in looking:
            await program.look()
        for item in await items_marked(storage, OPEN):
            if is_abandoned(item.intent):
                await self.run.recovery.end(item)
        present = {member.member for member in await members_in(storage)}
        for item in await items_marked(storage, ODD):
            if item.suspect is not None and item.suspected not in present:
                await self.run.recovery.recheck(item)
        if not (await pass_in(storage)).counts_for(await migration_in(storage)):
            await self.run.copy()

    async def take_over(self, id: str = "s") -> None:
        """Take the write of *id* from its owner, who may be alive, and end it."""
        [item] = [one for one in await items_marked(self.stores.storage, OPEN) if one.session_id == id]
        assert await self.run.recovery.end(item, by_force=True)

    async def kind(self, id: str = "s") -> str:
        """How the stores compare."""
        return (await self.stores.kinds(id))[0]

    async def end(self) -> None:
        for program in self.programs:
            await program.end()


def _shown(pid: int) -> dict[str, Any]:
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return this_process() | {"pid": pid, "started": started}
