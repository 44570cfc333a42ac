"""The public conformance suite: what every storage promises, written once and run against each of them.

    class TestMine(StorageConformance):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda **options: open_mine(tmp_path, **options)

``open_store(*, clock=None, indexed=None)`` gives an unopened storage, each time on the one store of the running test.
A class that gives a fixture ``storage`` instead (one open, empty storage) is tested as well, without what needs a
clock or a second look at the store: those tests are skipped, with the reason.

Skills that a storage lacks stand in ``missing`` (names of :data:`SKILLS`); their tests then demand that it refuses.
An inherited test cannot be redefined. The suite needs ``pytest``, ``pytest-asyncio`` and ``hypothesis``.
"""

import pytest

pytest.register_assert_rewrite("unified_storage.testing.promises")

from unified_storage.testing.clock import ManualClock  # noqa: E402  # after the line that makes asserts speak
from unified_storage.testing.conformance import StorageConformance  # noqa: E402
from unified_storage.testing.harness import SKILLS, OpenStore  # noqa: E402

__all__ = ["SKILLS", "ManualClock", "OpenStore", "StorageConformance"]
