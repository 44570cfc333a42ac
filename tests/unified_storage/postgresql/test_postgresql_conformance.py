"""PostgreSQL keeps every promise."""

from collections.abc import AsyncIterator

import pytest

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage import open_storage
from unified_storage.testing import StorageConformance

pytestmark = pytest.mark.servers


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """One of the test's own, whose tables go afterwards."""
    name = fresh_namespace("pg")
    yield name
    await drop_namespace(engine_url("postgresql"), name)


class TestPostgreSQL(StorageConformance):
    """S0.27."""

    @pytest.fixture
    def open_store(self, namespace: str):
        url = engine_url("postgresql")
        return lambda **options: open_storage(url, namespace=namespace, **options)
