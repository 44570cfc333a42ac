"""The same questions to two storages: whatever one answers, the other has to answer too.

async with open_storage("memory://", indexed=INDEXED, clock=clock) as reference, open_mine(...) as other:
    await assert_same_answers(reference, other, generated_cases(100))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from unified_storage.errors import StorageError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import gathered
from unified_storage.testing.nasty import INDEXED, TYPES, Nasty
from unified_storage.values import equal

__all__ = ["INDEXED", "Case", "Question", "Tally", "assert_same_answers", "generated_cases"]

Ask = Callable[[IUnifiedStorage], Awaitable[Any]]


@dataclass(frozen=True)
class Question:
    """A call of a listing verb, and how to write it down when the answers differ."""

    written: str
    ask: Ask


@dataclass(frozen=True)
class Case:
    """A store's whole content (as ``restore`` takes it), and what is asked of it."""

    seed: int
    records: list[dict[str, Any]]
    questions: list[Question]


@dataclass
class Tally:
    """What was compared: calls, those that found something, and those that both refused."""

    asked: int = 0
    found_something: int = 0
    refused: int = 0


def generated_cases(
    filters: int, queries: int = 0, *, records: int = 60, each: int = 20, seed: int = 0
) -> Iterator[Case]:
    """Cases that ask *filters* filters, and *queries* query texts, of stores full of nasty documents.

    Args:
        filters: each is listed, counted, streamed and paged through in some order.
        records: how many are drawn for one store; a few fewer remain, where identities meet.
        each: questions of a kind to one store.
        seed: of the first store; the others follow it.
    """
    while filters > 0 or queries > 0:
        nasty = Nasty(seed)
        asked = [question for _ in range(min(each, filters)) for question in _about_a_filter(nasty)]
        asked += [_about_a_query(nasty) for _ in range(min(each, queries))]
        yield Case(seed, nasty.records(records), asked)
        filters, queries, seed = filters - each, queries - each, seed + 1


def _about_a_filter(nasty: Nasty) -> list[Question]:
    filters, order, size = nasty.filters(), nasty.order(), nasty.size()
    return [
        Question(f"list({filters!r})", lambda storage: storage.list(filters)),
        Question(f"count({filters!r})", lambda storage: storage.count(filters)),
        Question(f"stream_list({filters!r}, {size})", lambda storage: gathered(storage.stream_list(filters, size))),
        Question(
            f"page({filters!r}, limit={size}, order_by={order!r}) and on",
            lambda storage: _all_pages(storage, filters, order, size),
        ),
        Question(
            f"page({filters!r}, limit={size}, order_by={order!r}, skip=3, with_data=False)",
            lambda storage: _one_page(storage, filters, order, size),
        ),
    ]


def _about_a_query(nasty: Nasty) -> Question:
    text, params = nasty.query()
    return Question(f"query({text!r}, {params!r})", lambda storage: storage.query(text, params))


async def _all_pages(storage: IUnifiedStorage, filters: Any, order_by: str, limit: int) -> list[Any]:
    """The pages one after the other; that they end is part of the answer."""
    pages = []
    cursor = None
    for _ in range(1000):
        page = await storage.page(filters, limit=limit, order_by=order_by, cursor=cursor)
        pages.append(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return pages
    raise AssertionError("the pages do not end")


async def _one_page(storage: IUnifiedStorage, filters: Any, order_by: str, limit: int) -> list[Any]:
    page = await storage.page(filters, limit=limit, order_by=order_by, skip=3, with_data=False)
    return [page.items, page.next_cursor is None]


async def assert_same_answers(
    reference: IUnifiedStorage, other: IUnifiedStorage, cases: Iterable[Case], *, orders_alike: bool = True
) -> Tally:
    """Ask both storages everything, and raise ``AssertionError`` at the first answer that differs.

    Args:
        reference, other: open, with the same clock; what they hold is replaced.
        orders_alike: both have the same indexed paths; else what one refuses the other may answer.
    """
    tally = Tally()
    for case in cases:
        for storage in (reference, other):
            await _hold_only(storage, case.records)
        for question in case.questions:
            expected, found = await _answer(reference, question), await _answer(other, question)
            refusals = isinstance(expected, str) + isinstance(found, str)
            assert equal(found, expected) or (refusals == 1 and not orders_alike), (
                f"seed {case.seed}: {question.written}\n  the reference answers {expected!r}\n  the other {found!r}"
            )
            tally.asked += 1
            if isinstance(expected, str):
                tally.refused += 1
                continue
            tally.found_something += any(expected) if isinstance(expected, list) else expected not in (0, None)
    return tally


async def _hold_only(storage: IUnifiedStorage, records: list[dict[str, Any]]) -> None:
    everything = {"type": {"$in": sorted(set(TYPES))}}
    await storage.purge_expired()
    for record in await storage.list(everything, with_data=False):
        await storage.delete(record["id"], type=record["type"])
    await storage.restore(records)


async def _answer(storage: IUnifiedStorage, question: Question) -> Any:
    """What a storage answers, or the code of its refusal."""
    try:
        return await question.ask(storage)
    except StorageError as error:
        return error.error_code
