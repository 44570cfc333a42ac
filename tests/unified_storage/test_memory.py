"""The memory backend keeps every promise, and some of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unified_storage import IUnifiedStorage, open_storage
from unified_storage.testing import StorageConformance


class TestMemory(StorageConformance):
    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self) -> Callable[..., IUnifiedStorage]:
        return lambda **options: open_storage("memory://", **options)
