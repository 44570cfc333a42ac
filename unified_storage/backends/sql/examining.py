"""Looking a store over while others use it: its indexes, its rows, and paths that nobody went on filling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex

from unified_storage.backends.sql.damage import CHECKS, Check, Suspect, parts_of
from unified_storage.backends.sql.dialect import Dialect
from unified_storage.backends.sql.engine import StepsOf
from unified_storage.backends.sql.schema import after_all_writes, refreshed, unfilled
from unified_storage.backends.sql.statements import Call, Steps
from unified_storage.backends.sql.store import Store
from unified_storage.backends.sql.tables import Tables, tables_of
from unified_storage.filters import Path
from unified_storage.findings import PATH_UNFILLED, SCHEMA_INDEX, Finding
from unified_storage.interface import Findings
from unified_storage.paths import path_text

T = TypeVar("T")
_MENDED_AT_ONCE = 20
_TIME_TO_FILL = 3.0
"""Seconds that somebody who is filling a path has to get through, in a store that was walked through quickly."""


class Run(Protocol):
    """Carries out steps: on one state of the database, in a transaction, or as a change of the schema."""

    async def __call__(self, steps: StepsOf[T], /) -> T: ...


class Examination:
    """One walk through everything that a store consists of.

    Args:
        store: for this walk alone, since it follows what other programs add to the list of paths.
        fill: gives the older records of each type their keys at its paths.
    """

    def __init__(
        self,
        store: Store,
        dialect: Dialect,
        *,
        read: Run,
        write: Run,
        upgrade: Run,
        fill: Callable[[Mapping[str, Sequence[Path]]], Awaitable[None]],
        repair: bool,
    ) -> None:
        self._store = store
        self._dialect = dialect
        self._read = read
        self._write = write
        self._upgrade = upgrade
        self._fill = fill
        self._repair = repair

    async def findings(self) -> AsyncGenerator[Findings, None]:
        """What is wrong, and was mended where that was asked for, batch by batch."""
        waiting = await self._read(lambda: self._current(self._unfilled))
        if found := await self._missing_indexes():
            yield found
        for kind in CHECKS:
            async for found in self._walk(kind):
                yield found
        if found := await self._left_unfilled(waiting):
            yield found

    def _current(self, steps: StepsOf[T]) -> Steps[T]:
        """*steps*, with the list of paths as it is at the moment that they see."""
        yield from refreshed(self._store, self._dialect)
        return (yield from steps())

    # -- rows ----------------------------------------------------------------------------------------------------

    async def _walk(self, kind: type[Check]) -> AsyncIterator[Findings]:
        place: int | None = 0
        while place is not None:
            after = place
            suspects, place = await self._read(lambda: self._current(lambda: self._check(kind).look(after)))  # noqa: B023 (run at once)
            if suspects and not self._repair:
                yield [suspect.finding for suspect in suspects]
            for part in parts_of(suspects, _MENDED_AT_ONCE) if self._repair else ():
                if found := await self._write(lambda: self._current(lambda: self._mended(kind, part))):  # noqa: B023 (run at once)
                    yield found

    def _check(self, kind: type[Check]) -> Check:
        return kind(self._store, self._dialect)

    def _mended(self, kind: type[Check], suspects: Sequence[Suspect]) -> Steps[Findings]:
        check, found = self._check(kind), []
        for suspect in suspects:
            finding = yield from check.mend(suspect)
            if finding is not None:
                found.append(finding)
        return found

    # -- indexes -------------------------------------------------------------------------------------------------

    async def _missing_indexes(self) -> Findings:
        found: Findings = []
        for index in await self._read(lambda: self._current(self._missing)):
            if self._repair:
                made = await self._upgrade(lambda: self._made(index))  # noqa: B023 (run at once)
                found += [] if made is None else [made]
            else:
                found.append(await self._read(lambda: self._finding(index)))  # noqa: B023 (run at once)
        return found

    def _missing(self) -> Steps[list[sa.Index]]:
        """The indexes of the newest schema that are not there, or cannot be used."""
        tables = tables_of(self._store.statements.prefix, self._store.statements.slots)
        there = set()
        for table in tables.metadata.sorted_tables:
            rows = yield Call(self._dialect.index_names, [table.name])
            there |= {name for (name,) in rows}
        return [index for index in self._indexes(tables) if index.name not in there]

    def _indexes(self, tables: Tables) -> Iterator[sa.Index]:
        yield from tables.first_indexes
        yield tables.slot_of_path
        for number in sorted({slot.number for paths in self._store.slots.values() for slot in paths.values()}):
            yield tables.slot_index(number)

    def _finding(self, index: sa.Index) -> Steps[Finding]:
        repairable = not index.unique or not (yield from self._has_twins(index))
        return Finding(SCHEMA_INDEX, repairable=repairable, detail=str(index.name))

    def _has_twins(self, index: sa.Index) -> Steps[bool]:
        """Whether rows got in that the index would have kept out: which of them is right, nobody here can say."""
        columns = [f"t.{column.name}" for column in index.columns]
        there = " AND ".join(f"{column} IS NOT NULL" for column in columns)
        assert index.table is not None
        rows = yield Call(
            f"SELECT 1 FROM {index.table.name} AS t WHERE {there} "
            f"GROUP BY {', '.join(columns)} HAVING count(*) > 1 LIMIT 1"
        )
        return bool(rows)

    def _made(self, index: sa.Index) -> Steps[Finding | None]:
        """Make an index again; None where somebody else has, meanwhile."""
        if self._dialect.schema_is_transactional:
            # Before any lock of our own: a writer that we wait for must not have to wait for us.
            yield from after_all_writes(tables_of(self._store.statements.prefix), self._dialect)
        if index.name not in {missing.name for missing in (yield from self._missing())}:
            return None
        finding = yield from self._finding(index)
        if not finding.repairable:
            return finding
        text = str(CreateIndex(index).compile(dialect=self._dialect.sqlalchemy)).strip()
        yield Call(text, may_exist=not self._dialect.schema_is_transactional)
        left = yield from self._missing()
        return replace(finding, repaired=index.name not in {missing.name for missing in left})

    # -- paths ---------------------------------------------------------------------------------------------------

    def _unfilled(self) -> Steps[set[tuple[str, Path]]]:
        """The paths that older records have no keys for."""
        yield from ()
        return {(type_name, path) for type_name, paths in unfilled(self._store).items() for path in paths}

    async def _left_unfilled(self, waiting: set[tuple[str, Path]]) -> Findings:
        """The paths that were unfilled before the walk, and stay so behind it: nobody is on the way with them.

        Where somebody is after all, the keys are written twice, and are the same.
        """
        due = time.monotonic() + _TIME_TO_FILL
        while left := waiting & await self._read(lambda: self._current(self._unfilled)):
            if time.monotonic() > due:
                break
            await asyncio.sleep(_TIME_TO_FILL / 20)
        after = left
        if left and self._repair:
            by_type: dict[str, list[Path]] = {}
            for type_name, path in sorted(left):
                by_type.setdefault(type_name, []).append(path)
            await self._fill(by_type)
            after = await self._read(lambda: self._current(self._unfilled))
        return [
            Finding(PATH_UNFILLED, "", kind, True, repaired=(kind, path) not in after, detail=path_text(path))
            for kind, path in sorted(left)
        ]
