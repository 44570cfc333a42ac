"""The two stores of a migration, and an operator's steps, for tests in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from legacy.file_store import FileSessionStore
from legacy.migration.live import MigratingSessionService
from legacy.migration.live.comparing import compared
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.member import Member
from legacy.migration.live.passes import Pass, PassState
from legacy.migration.live.phases import Phase
from legacy.migration.live.recovering import Recovery
from legacy.migration.live.rules import ALL, Rules
from legacy.migration.live.runner import begin
from legacy.migration.live.switching import settled, switch
from legacy.migration.live.unified_side import held_in
from legacy.store import ISessionStore
from tests.places import Place
from unified_storage import IUnifiedStorage

POLL = 0.02


def document(session_id: str, **fields: Any) -> dict[str, Any]:
    """A session as old programs save it."""
    messages = [{"role": "user", "content": "Hello"}]
    return {
        "metadata": {"session_id": session_id, "status": "active"},
        "workflow_state": {"messages": messages},
        "settings": {},
        **fields,
    }


@dataclass
class Stores:
    """Both stores, and what an operator does with them.

    Attributes:
        legacy: a store that programs share.
        storage: an own way to the target, beside those of the programs.
    """

    folder: Path
    place: Place
    storage: IUnifiedStorage
    legacy: ISessionStore
    rules: Rules = ALL
    services: list[MigratingSessionService] = field(default_factory=list)

    def program(self, name: str, **options: Any) -> MigratingSessionService:
        """A program of its own, which shares nothing with others but the two stores."""
        told: dict[str, Any] = {
            "journal": self.folder / "journals",
            "member": name,
            "poll_interval": POLL,
            "rules": self.rules,
        }
        legacy = options.pop("legacy", self.legacy)
        storage = options.pop("storage", self.storage)
        service = MigratingSessionService(legacy, storage, **told | options)
        self.services.append(service)
        return service

    @property
    def side(self) -> LegacySide:
        return LegacySide(self.legacy)

    async def to(self, *phases: Phase) -> None:
        """Change the phase step by step, and wait until everybody has followed."""
        for phase in phases:
            await switch(self.storage, phase, rules=self.rules)
            assert await settled(self.storage, timeout=20)

    async def forward(self, phase: Phase) -> None:
        """From the beginning to *phase*, with the pass that it takes."""
        for step in list(Phase)[1 : phase + 1]:
            await self.to(step)
            if step == Phase.DUAL_WRITE:
                await self.copy()

    async def copy(self, **options: Any) -> PassState:
        """One pass, by a member that is there for it alone."""
        member = Member(self.storage, name="copier", journal=None, rules=self.rules)
        await member.join()
        await member.look()
        try:
            recovery = Recovery(self.storage, self.side, None, member.me, self.rules)
            return await Pass(self.storage, self.side, recovery, None, self.rules, **options).run()
        finally:
            await member.leave()
            await settled(self.storage, timeout=20)

    async def in_target(self, session_id: str) -> dict[str, Any] | None:
        """What the target holds of a session, no time rendered."""
        return (await held_in(self.storage, [session_id]))[session_id].document

    async def kinds(self, *session_ids: str) -> list[str]:
        """How the stores compare, session by session."""
        return [one.kind for one in await compared(self.storage, self.side, session_ids)]


@asynccontextmanager
async def stores_on(place: Place, folder: Path, rules: Rules = ALL) -> AsyncIterator[Stores]:
    """An empty legacy store of files, an empty target, and a migration of them that has just begun."""
    async with place.open() as storage:
        stores = Stores(folder, place, storage, FileSessionStore(folder / "sessions"), rules)
        await begin(storage, plan_hash="plan", source="files")
        try:
            yield stores
        finally:
            for service in stores.services:
                await service.close()
