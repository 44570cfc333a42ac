"""Answers do not depend on what is indexed, nor on where SQLite keeps its data."""

from pathlib import Path

import pytest

from unified_storage import open_storage
from unified_storage.testing import ManualClock, assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.differential import INDEXED


@pytest.mark.parametrize("indexed", [None, INDEXED], ids=["few indexes", "many indexes"])
async def test_answers_do_not_depend_on_indexes(tmp_path: Path, indexed, scaled) -> None:
    """What is indexed on one side only may be refused as an order on the other, and changes nothing else."""
    clock = ManualClock()
    async with (
        open_storage("memory://", clock=clock) as reference,
        open_storage(f"sqlite:///{tmp_path}/records.db", indexed=indexed, clock=clock) as sqlite,
    ):
        cases = generated_cases(scaled(500, minimum=40), scaled(100, minimum=10), seed=10_000)
        tally = await assert_same_answers(reference, sqlite, cases, orders_alike=indexed is None)
    assert tally.refused > 0
    assert tally.found_something > tally.asked // 5


def test_a_database_in_memory_behaves_like_the_model(scaled) -> None:
    run_state_machine(lambda **options: open_storage("sqlite:///:memory:", **options), examples=scaled(300, minimum=10))


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/walked.db"], ids=["memory", "sqlite"])
async def test_a_long_walk_that_deletes_behind_itself_sees_every_survivor_once(
    url: str, tmp_path: Path, scaled
) -> None:
    """S2.29, T2.25: 100 000 records; those behind are deleted, some ahead are too, others come."""
    total = scaled(100_000, minimum=3000)
    names = [f"{n:06}" for n in range(0, 2 * total, 2)]
    async with open_storage(url.format(folder=tmp_path)) as storage:
        for start in range(0, total, 2000):
            await storage.batch_save([{"id": id, "type": "note", "data": {}} for id in names[start : start + 2000]])
        seen: list[str] = []
        gone: set[str] = set()
        async for batch in storage.stream_list(batch_size=500, with_data=False):
            found = [record["id"] for record in batch]
            seen += found
            assert await storage.batch_delete(found[::2]) == len(found[::2])
            ahead = [f"{int(found[-1]) + 2 * step:06}" for step in (3, 5)]
            await storage.batch_delete(ahead)
            gone.update(ahead)
            await storage.save({"id": f"{int(found[-1]) + 1:06}", "type": "note", "data": {}})
            await storage.save({"id": f"{found[0]}-behind", "type": "note", "data": {}})
        assert seen == sorted(set(seen))
        assert [id for id in seen if int(id) % 2 == 0] == [id for id in names if id not in gone]
