"""A follower that runs beside a test, which writes to its source and sees what each pass does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from legacy.migration import Following, FollowReport, Pass, follow_store, verify_stores
from legacy.stores.parcels import CONFLICT

SECONDS = 0.05
PATIENCE = 60.0


@dataclass
class Watch:
    """The passes so far; *ended* has the result once the follower was told to end."""

    passes: list[Pass] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    result: FollowReport | None = None
    conflicts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def until(self, seen: Callable[[Pass], object], *, patience: float = PATIENCE) -> Pass:
        """The next pass of which *seen* says yes; one that has ended already is none."""
        begun = len(self.passes)
        async with asyncio.timeout(patience):
            while True:
                for done in self.passes[begun:]:
                    if seen(done):
                        return done
                begun = len(self.passes)
                await asyncio.sleep(0.01)

    async def quiet(self) -> Pass:
        """A quiet pass that began after now."""
        await self.until(lambda _: True)
        return await self.until(lambda done: done.is_quiet)

    @property
    def ended(self) -> FollowReport:
        assert self.result is not None
        return self.result


@asynccontextmanager
async def following(source: object, target: object, **how: Any) -> AsyncIterator[Watch]:
    """While inside: *source* is followed; whole when it ended well."""
    watch = Watch()
    running = asyncio.create_task(
        follow_store(
            source,  # type: ignore[arg-type]
            target,  # type: ignore[arg-type]
            Following(**{"seconds": SECONDS, **how}),
            stop=watch.stop,
            on_pass=watch.passes.append,
        )
    )
    try:
        yield watch
    finally:
        watch.stop.set()
        watch.result = await running
        watch.conflicts = {f"{item.id}": item.reasons for item in watch.result.copy.items if item.outcome == CONFLICT}
        watch.result.close()


async def followed_once(source: object, target: object, **how: Any) -> FollowReport:
    """One pass, as a last one when the writers have ended."""
    done = await follow_store(source, target, Following(**{"seconds": 0.0, **how}))  # type: ignore[arg-type]
    done.close()
    return done


async def differing(source: object, target: object) -> dict[str, Any]:
    """What is not the same in both, told from either side: kinds of difference, and records that only one has."""
    report = await verify_stores(source, target)  # type: ignore[arg-type]
    facts = report.to_dict()
    report.close()
    found = {f"{one['id']}": one["reasons"] for one in facts["differences"]}
    return found | ({"only in target": facts["only_in_target"]} if facts["only_in_target"] else {})
