"""Pages and queries for storages that do nothing faster: read all that match, keep what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified_storage.arguments import check_page
from unified_storage.filters import Condition, parse_filters
from unified_storage.interface import Filters, IUnifiedStorage, Page, Records
from unified_storage.ordering import Order, after, cursor_of, ordered, parse_order, read_cursor, write_cursor
from unified_storage.query import parse_query

_BY_TIME = {name: parse_order(name, ()) for name in ("-updated_at", "updated_at", "-created_at", "created_at")}


def page_order(storage: IUnifiedStorage, order_by: str) -> Order:
    """The order of a page; a path counts as indexed when it is so for any type."""
    if type(order_by) is str and order_by in _BY_TIME:
        return _BY_TIME[order_by]
    return parse_order(order_by, {path for paths in storage.indexed.values() for path in paths})


async def page_of_all(
    storage: IUnifiedStorage,
    filters: Filters | None,
    limit: int,
    order_by: str,
    cursor: str | None,
    skip: int,
    with_data: bool,
) -> Page:
    """One page out of everything that matches."""
    check_page(limit, skip, with_data)
    condition = parse_filters(filters)
    order = page_order(storage, order_by)
    place = None if cursor is None else read_cursor(cursor, order, condition)
    left: Records = []
    async for batch in storage.stream_list(filters, 1000):
        left.extend(record for record in batch if place is None or after(order, place, record))
    shown = ordered(left, order)[skip : skip + limit + 1]
    return page_of(shown, limit, order, condition, with_data)


def page_of(found: Records, limit: int, order: Order, condition: Condition, with_data: bool) -> Page:
    """The page of the first *limit* of *found*, which holds one more where there is a next page, and is used up."""
    items = found[:limit]
    more = write_cursor(cursor_of(order, items[-1]), order, condition) if items and len(found) > limit else None
    if not with_data:
        for record in items:
            record.pop("data", None)
    return Page(items, more)


async def records_of_query(storage: IUnifiedStorage, text: str, params: Mapping[str, Any] | None) -> Records:
    """What a query text selects."""
    query = parse_query(text, params)
    if query.order_by is not None:
        order = page_order(storage, query.order_by)
        found: Records = []
        async for batch in storage.stream_list(query.condition, 1000):
            found.extend(batch)
        return ordered(found, order)[: query.limit]
    return await storage.list(query.condition, query.limit)
