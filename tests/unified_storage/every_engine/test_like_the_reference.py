"""Every engine behaves like the model in random sequences of calls, and answers like the memory backend."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from tests.places import EMBEDDED, ON_DISK, SERVERS, Place, engines
from unified_storage import open_storage
from unified_storage.testing import assert_same_answers, generated_cases, run_state_machine
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.differential import INDEXED

LACKS = {"redis-cluster": frozenset({"transactions over partitions", "batches over partitions"})}


@pytest.mark.scaled
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", engines(*EMBEDDED, *SERVERS))
def test_it_behaves_like_the_model(engine: str, tmp_path: Path, scaled) -> None:
    """Each sequence in a store of its own; on a cluster, what it lacks has to be refused with nothing done."""
    numbers, namespaces = itertools.count(), []
    given = {"memory": "memory://"}
    url = given.get(engine) or (None if engine == "sqlite" else engine_url(engine))

    def fresh(**options):
        if url is None:
            return open_storage(f"sqlite:///{tmp_path}/{next(numbers)}.db", **options)
        namespaces.append(fresh_namespace("model"))
        return open_storage(url, namespace=namespaces[-1], **options)

    async def drop_all() -> None:
        for namespace in namespaces:
            await drop_namespace(engine_url(engine), namespace)

    try:
        # making tables for each sequence takes a server longer than the sequence itself
        examples = scaled(300 if engine in SERVERS else 1000, minimum=15)
        run_state_machine(fresh, examples=examples, missing=LACKS.get(engine, frozenset()))
    finally:
        if engine in SERVERS:
            asyncio.run(drop_all())


@pytest.mark.scaled
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_it_answers_like_memory(place: Place, scaled) -> None:
    """S2.24, S2.28: 2 000 generated (documents, filter, order, page) cases and 500 query texts."""
    clock = ManualClock()
    async with (
        open_storage("memory://", indexed=INDEXED, clock=clock) as memory,
        place.open(indexed=INDEXED, clock=clock) as storage,
    ):
        cases = generated_cases(scaled(2000, minimum=60), scaled(500, minimum=20))
        tally = await assert_same_answers(memory, storage, cases)
    assert tally.found_something > tally.asked // 10
