"""The verbs have the names and arguments that callers rely on, on everything that is a storage (S2.18)."""

import inspect

import pytest

from unified_storage import IUnifiedStorage, Page, Transaction, open_storage
from unified_storage.delegate import Delegate
from unified_storage.layers.cache import Cache
from unified_storage.layers.metrics import Metrics
from unified_storage.testing import FaultyStorage

SIGNATURES = {
    "save": "data, *, expected_version=None",
    "load": "id, *, type=None",
    "update": "id, updates, *, type=None, expected_version=None",
    "delete": "id, *, type=None, cascade=False, expected_version=None",
    "exists": "id, *, type=None",
    "list": "filters=None, limit=None, *, with_data=True",
    "page": "filters=None, *, limit=20, order_by='-updated_at', cursor=None, skip=0, with_data=True",
    "stream_list": "filters=None, batch_size=100, *, after=None, with_data=True",
    "query": "query, params=None",
    "count": "filters=None",
    "batch_save": "data_list",
    "batch_delete": "ids, *, type=None, cascade=False",
    "get_by_session": "session_id",
    "get_by_thread": "thread_id",
    "append": "log_id, entries, *, on_duplicate='error', keep_last=None, expected_version=None",
    "pop": "log_id",
    "read": "log_id, *, after=0, before=None, last=None, since=None, limit=None",
    "rewrite": "log_id, entries, *, expected_version=None",
    "log_info": "log_id",
    "logs": "prefix=''",
    "transaction": "operations=None, *, timeout=30",
    "atomically": "fn, *, attempts=5",
    "restore": "records, logs=()",
    "cleanup_old_data": "retention_days, *, type='session', dry_run=False",
    "purge_expired": "",
    "examine": "*, repair=False",
    "health_check": "",
    "close": "",
}
STORAGES = [
    *(IUnifiedStorage, Transaction, Delegate, FaultyStorage, Cache, Metrics),
    *(type(open_storage(url)) for url in ("memory://", "sqlite:///:memory:")),
]


def written(verb) -> str:
    """A verb's arguments as the design writes them: names, kinds and defaults, without types."""
    parameters = [part.replace(annotation=part.empty) for part in inspect.signature(verb).parameters.values()][1:]
    return str(inspect.Signature(parameters))[1:-1]


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.__name__)
@pytest.mark.parametrize("verb", SIGNATURES)
def test_every_storage_has_the_verbs_as_they_are_designed(storage: type[IUnifiedStorage], verb: str) -> None:
    assert written(getattr(storage, verb)) == SIGNATURES[verb]


def test_every_verb_is_awaited_but_the_streams_and_transaction() -> None:
    awaited = {verb for verb in SIGNATURES if inspect.iscoroutinefunction(getattr(IUnifiedStorage, verb))}
    assert SIGNATURES.keys() - awaited == {"stream_list", "logs", "examine", "transaction"}


def test_a_page_has_its_items_and_the_next_cursor() -> None:
    page = Page([{"id": "a"}], "cursor")
    assert (page.items, page.next_cursor) == ([{"id": "a"}], "cursor")
    assert page == Page([{"id": "a"}], "cursor")


async def test_a_transaction_is_a_storage() -> None:
    async with open_storage("memory://") as storage, storage.transaction() as tx:
        assert isinstance(tx, IUnifiedStorage)
        assert isinstance(tx, Transaction)
