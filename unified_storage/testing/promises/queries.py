"""Promises about query text: what it finds, and that nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest

from unified_storage.errors import StorageValidationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.testing.drafts import ids, note, save_all, session
from unified_storage.testing.harness import Harness

FOUND: list[tuple[str, dict[str, Any] | None, list[str]]] = [
    ("", None, ["a", "b", "c", "s"]),
    ("type = 'session'", None, ["s"]),
    ("WHERE type = 'session'", None, ["s"]),
    ("where type = 'note' and not data.n = 1", None, ["b", "c"]),
    ("type = 'session' AND metadata.status = :s ORDER BY -updated_at LIMIT 20", {"s": "active"}, ["s"]),
    ("data.n = 1", None, ["a"]),
    ("data.n = 1.0", None, ["a"]),
    ("data.n != 1", None, ["b", "c", "s"]),
    ("data.n > 1", None, ["b"]),
    ("data.n >= :n", {"n": 1}, ["a", "b"]),
    ("data.n < 2 OR data.n = 2", None, ["a", "b"]),
    ("data.n <= -1", None, []),
    ("data.n IN (1, 2)", None, ["a", "b"]),
    ("data.n IN :many", {"many": [2, 3]}, ["b"]),
    ("data.n NOT IN (1)", None, ["b", "c", "s"]),
    ("data.n IS NULL", None, ["c"]),
    ("data.n IS NOT NULL AND EXISTS(data.n)", None, ["a", "b"]),
    ("NOT EXISTS(data.n)", None, ["s"]),
    ("data.t LIKE 'x%'", None, ["a"]),
    ("data.t = 'it''s'", None, ["b"]),
    ("CONTAINS(data.tags, 'red')", None, ["a"]),
    ("CONTAINS(data.t, 'yz')", None, ["a"]),
    ('data."odd key.x" = TRUE', None, ["b"]),
    ("(data.n = 1 OR data.n = 2) AND data.t = 'xyz'", None, ["a"]),
    ("data.n = 1 OR data.n = 2 AND data.t = 'xyz'", None, ["a"]),
    ("ORDER BY -id LIMIT 2", None, ["s", "c"]),
    ("ORDER BY id", None, ["a", "b", "c", "s"]),
    ("type = 'note' ORDER BY -id", None, ["c", "b", "a"]),
    ("LIMIT 0", None, []),
    ("LIMIT :n", {"n": 1}, ["a"]),
]
REFUSED: list[tuple[Any, Any]] = [
    *(
        ("SELECT * FROM records", None),
        ("data.n = 1; DROP TABLE records", None),
        ("data.n = 1 --", None),
        ("1 = 1", None),
    ),
    *(
        ("data.n = ", None),
        ("data.n == 1", None),
        ("data.n = 'open", None),
        ("(data.n = 1", None),
        ("data.n = 1)", None),
    ),
    *(
        ("colour = 1", None),
        ("data.n = :n", None),
        ("data.n = 1", {"n": 1}),
        ("data.n IN 1", None),
        ("data.n < NULL", None),
    ),
    *(
        ("data.n IN (1, 'a')", None),
        ("ORDER BY data.n", None),
        ("LIMIT -1", None),
        ("LIMIT 'x'", None),
        ("LIMIT 1 2", None),
    ),
    *(
        ("data.n = :n", {"n": [1]}),
        ("data.n LIKE 1", None),
        ("AND", None),
        ("NOT", None),
        ("(" * 500 + "data.n = 1", None),
    ),
    *(
        ("data.n = 1 UNION SELECT 1", None),
        ("data.n BETWEEN 1 AND 2", None),
        (None, None),
        (5, None),
        ("data.n = 1", [1]),
    ),
]


class QueryPromises(Harness):
    """The portable, read-only query language."""

    async def test_a_query_finds_what_its_filters_mean(self, storage: IUnifiedStorage) -> None:
        await save_all(
            storage,
            [
                note("a", {"n": 1, "t": "xyz", "tags": ["red"]}),
                note("b", {"n": 2, "t": "it's", "odd key.x": True}),
                note("c", {"n": None}),
                session("s", metadata={"status": "active"}),
            ],
        )
        for text, params, expected in FOUND:
            assert ids(await storage.query(text, params)) == expected, text

    @pytest.mark.parametrize(("text", "params"), REFUSED, ids=lambda given: ascii(given)[:30])
    async def test_anything_else_is_refused(self, storage: IUnifiedStorage, text: Any, params: Any) -> None:
        await storage.save(note("a", {"n": 1}))
        with pytest.raises(StorageValidationError):
            await storage.query(text, params)
        assert await storage.count() == 1

    async def test_values_are_bound_and_never_read_as_text(self, storage: IUnifiedStorage) -> None:
        attack = "' OR '1' = '1"
        await save_all(storage, [note("a", {"t": attack}), note("b", {"t": "x"})])
        assert ids(await storage.query("data.t = :t", {"t": attack})) == ["a"]

    async def test_a_query_hands_out_whole_records(self, storage: IUnifiedStorage) -> None:
        await storage.save(note("a", {"n": 1}, metadata={"m": 1}))
        assert await storage.query("type = 'note'") == [await storage.load("a")]
