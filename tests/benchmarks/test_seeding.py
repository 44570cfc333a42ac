"""What goes past a system is looked for through the system."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import data
from benchmarks.system import Event, Session, System
from benchmarks.systems.seeding import read_back_events, read_back_sessions, times


class Forgetful(System):
    """Shows all but what it is made to forget."""

    name = "forgetful"
    engines = frozenset({"sqlite"})

    def __init__(self, forgotten: str) -> None:
        super().__init__("sqlite", "")
        self.forgotten = forgotten

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, session: Session) -> None: ...

    async def append(self, id: str, event: Event) -> None: ...

    async def load(self, id: str) -> Any:
        if id == self.forgotten:
            raise KeyError(id)

    async def last(self, id: str, count: int) -> Sequence[Any]:
        return (await self.keys(id))[-count:]

    async def keys(self, id: str) -> list[str]:
        return [event.key for event in data.events(id, 50) if event.key != self.forgotten]

    async def state(self, id: str) -> dict[str, Any]:
        return {} if self.forgotten == "state" else data.session(int(id[1:])).state


@pytest.mark.parametrize("forgotten", ["s0000000", "s0000095", "state"])
async def test_sessions_that_the_system_does_not_show_are_an_error(forgotten):
    with pytest.raises((AssertionError, KeyError)):
        await read_back_sessions(Forgetful(forgotten), data.sessions(100))


@pytest.mark.parametrize("forgotten", ["s0000001-30", "s0000001-49"])
async def test_events_that_the_system_does_not_show_are_an_error(forgotten):
    with pytest.raises(AssertionError):
        await read_back_events(Forgetful(forgotten), "s0000001", data.events("s0000001", 20, start=30))


async def test_what_the_system_shows_is_no_error():
    await read_back_sessions(Forgetful(""), data.sessions(100))
    await read_back_events(Forgetful(""), "s0000001", data.events("s0000001", 20, start=30))


def test_times_go_up_and_end_now():
    seconds = times(5, step=2)
    assert [round(seconds[-1] - one) for one in seconds] == [8, 6, 4, 2, 0]
