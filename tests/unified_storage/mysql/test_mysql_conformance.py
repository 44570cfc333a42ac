"""MySQL or MariaDB keeps every promise."""

import pytest

from unified_storage import open_storage
from unified_storage.testing import StorageConformance

pytestmark = pytest.mark.servers


class TestMySQL(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, home):
        return lambda **options: open_storage(**home, **options)
