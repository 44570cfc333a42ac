"""A verification finds every difference there is, and none that there is not, while programs write."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from legacy.migration.live.phases import Phase
from legacy.migration.live.verifying import Verification, verify_live
from session_adapter.entries import history_of
from tests.migration.stores import Stores, document

PLANTED = 100


def changed_by_one_byte(value: Any, chosen: random.Random) -> Any:
    """*value* as JSON with one character of one of its texts or numbers another one."""
    text = json.dumps(value, ensure_ascii=False)
    places = [at for at, sign in enumerate(text) if sign.isalnum() and text[at - 1 : at + 2].isalnum()]
    chosen.shuffle(places)
    for at in places:
        other = "7" if text[at] != "7" else "8"
        if not text[at].isdigit():
            other = "q" if text[at] != "q" else "z"
        try:
            changed = json.loads(text[:at] + other + text[at + 1 :])
        except ValueError:
            continue
        if changed != value:
            return changed
    raise AssertionError("nothing in it can be changed")


async def test_every_planted_difference_of_one_byte_is_found(stores: Stores) -> None:
    chosen = random.Random(5)
    program = stores.program("a")
    ids = [f"s{number}" for number in range(2 * PLANTED)]
    for id in ids:
        await program.save_session(id, document(id, text=f"some words of {id}", number=1234567))
    await stores.forward(Phase.SHADOW_READ)
    planted = sorted(chosen.sample(ids, PLANTED))
    for number, id in enumerate(planted):
        if number % 3 == 0:
            stores.legacy.save_session(id, changed_by_one_byte(stores.legacy.get_session(id), chosen))
        elif number % 3 == 1:
            record = await stores.storage.load(id, type="session")
            assert record is not None
            record["data"] = changed_by_one_byte(record["data"], chosen)
            await stores.storage.save(record)
        else:
            [entry] = await stores.storage.read(history_of(id))
            await stores.storage.rewrite(history_of(id), [{"body": changed_by_one_byte(entry["body"], chosen)}])
    done = await verify_live(stores.storage, stores.side)
    assert sorted(one["id"] for one in done.found) == planted
    assert all(one["paths"] for one in done.found)
    assert (done.equal, done.different, done.exit_code) == (PLANTED, PLANTED, 3)


@pytest.mark.parametrize("phase", [Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.UNIFIED_PRIMARY])
async def test_none_is_reported_while_programs_write(stores: Stores, phase: Phase) -> None:
    first, second = stores.program("a"), stores.program("b")
    ids = [f"s{number}" for number in range(20)]
    for id in ids:
        await first.save_session(id, document(id))
    await stores.forward(phase)
    stop = asyncio.Event()

    async def write(program: Any, mine: list[str]) -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            id = mine[number % len(mine)]
            if number % 9 == 8:
                await program.delete_session(id)
            await program.save_session(id, document(id, number=number))

    writers = [asyncio.create_task(write(first, ids[::2])), asyncio.create_task(write(second, ids[1::2]))]
    for _ in range(5):
        done = await verify_live(stores.storage, stores.side)
        assert done.found == []
        assert len(ids) / 2 < done.compared <= len(ids)  # some are deleted at the moment of the listing
    stop.set()
    await asyncio.gather(*writers)
    assert (await verify_live(stores.storage, stores.side)).exit_code == 0


async def test_a_killed_verification_goes_on_behind_what_it_has_compared(stores: Stores, tmp_path: Path) -> None:
    program = stores.program("a")
    for number in range(450):
        stores.legacy.save_session(f"s{number:03}", document(f"s{number:03}"))
    await program.get_session("s000")
    await stores.forward(Phase.DUAL_WRITE)
    seen: list[int] = []

    def killed(state: Verification) -> None:
        seen.append(state.compared)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await verify_live(
            stores.storage, stores.side, begun=Verification(id="one"), folder=tmp_path, on_progress=killed
        )
    again: list[int] = []
    begun = Verification.kept(tmp_path, "one")
    done = await verify_live(
        stores.storage,
        stores.side,
        begun=begun,
        folder=tmp_path,
        on_progress=lambda state: again.append(state.compared),
    )
    assert seen == [200]
    assert again == [400, 450]
    assert (done.equal, done.complete, done.total) == (450, True, 450)


async def test_a_sample_is_the_same_sessions_each_time(stores: Stores) -> None:
    await stores.program("a").get_session("s0")
    for number in range(100):
        stores.legacy.save_session(f"s{number}", document(f"s{number}"))
    await stores.forward(Phase.DUAL_WRITE)
    counts = {
        (await verify_live(stores.storage, stores.side, begun=Verification(sample=20))).compared for _ in range(3)
    }
    assert len(counts) == 1
    assert 5 < counts.pop() < 40
