"""The public conformance suite: what every storage promises, written once and run against each of them.

    class TestMine(StorageConformance):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda **options: open_mine(tmp_path, **options)

``open_store(*, clock=None, indexed=None)`` gives an unopened storage, each time on the one store of the running test.
A class that gives a fixture ``storage`` instead (one open, empty storage) is tested as well, without what needs a
clock or a second look at the store: those tests are skipped, with the reason.

Skills that a storage lacks stand in ``missing`` (names of :data:`SKILLS`); their tests then demand that it refuses.
An inherited test cannot be redefined. Beside the suite there are a state machine against a model
(:mod:`~unified_storage.testing.machine`), generated questions that two storages have to answer alike
(:mod:`~unified_storage.testing.differential`), and faults on purpose (:mod:`~unified_storage.testing.faults`).

It needs ``pytest``, ``pytest-asyncio`` and ``hypothesis``.
"""

import pytest

pytest.register_assert_rewrite("unified_storage.testing.promises")

from unified_storage.testing.clock import ManualClock  # noqa: E402  # after the line that makes asserts speak
from unified_storage.testing.conformance import StorageConformance  # noqa: E402
from unified_storage.testing.differential import Case, assert_same_answers, generated_cases  # noqa: E402
from unified_storage.testing.faults import Faults, FaultyStorage, kill_at_random_moments  # noqa: E402
from unified_storage.testing.harness import SKILLS, OpenStore  # noqa: E402
from unified_storage.testing.machine import run_state_machine  # noqa: E402

__all__ = [
    "SKILLS",
    "Case",
    "Faults",
    "FaultyStorage",
    "ManualClock",
    "OpenStore",
    "StorageConformance",
    "assert_same_answers",
    "generated_cases",
    "kill_at_random_moments",
    "run_state_machine",
]
