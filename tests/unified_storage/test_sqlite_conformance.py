"""SQLite, in a file and in memory, keeps every promise."""

from pathlib import Path

import pytest

from unified_storage import open_storage
from unified_storage.testing import StorageConformance


class TestSQLiteFile(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, tmp_path: Path):
        return lambda **options: open_storage(f"sqlite:///{tmp_path}/records.db", **options)


class TestSQLiteInMemory(StorageConformance):
    """S0.27."""

    missing = frozenset({"persistence"})

    @pytest.fixture
    def open_store(self):
        return lambda **options: open_storage("sqlite:///:memory:", **options)
