"""Comparing both stores while programs write them; nothing is written to either."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from legacy.migration.exit_codes import DONE, TO_LOOK_AT
from legacy.migration.live.comparing import Compared, compared
from legacy.migration.live.legacy_side import LegacySide
from legacy.migration.live.roster import Roster
from legacy.session_files import replace_file
from unified_storage.errors import StorageConfigurationError, StorageError
from unified_storage.interface import IUnifiedStorage

BATCH = 200
MAX_REPORT = 1000


@dataclass
class Verification:
    """What a comparison has found so far.

    ``compared = equal + different + missing_in_target + only_in_target + unreadable + moving``; ``moving`` were written
    again and again while they were looked at, and are not verified.

    Attributes:
        id: names it, for going on with it and for a repair.
        after: the record id behind which it goes on.
        found: ``{"id", "kind", "paths"}`` of differences, the first ones by id.
    """

    id: str = field(default_factory=lambda: uuid4().hex[:12])
    after: str = ""
    total: int = 0
    complete: bool = False
    sample: float = 100.0
    equal: int = 0
    different: int = 0
    missing_in_target: int = 0
    only_in_target: int = 0
    unreadable: int = 0
    moving: int = 0
    passed_over: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def compared(self) -> int:
        told = (self.equal, self.different, self.missing_in_target, self.only_in_target, self.unreadable, self.moving)
        return sum(told)

    @property
    def mismatches(self) -> int:
        return self.compared - self.equal - self.moving

    @property
    def phase(self) -> str:
        """As a progress names it."""
        return "verify"

    @property
    def done(self) -> int:
        return self.compared + self.passed_over

    @property
    def exit_code(self) -> int:
        return TO_LOOK_AT if self.mismatches or self.moving else DONE

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        del facts["after"]
        return facts | {"compared": self.compared, "mismatches": self.mismatches, "exit_code": self.exit_code}

    def add(self, one: Compared, max_report: int) -> None:
        setattr(self, one.kind, getattr(self, one.kind) + 1)
        if one.kind not in ("equal", "moving") and len(self.found) < max_report:
            self.found.append({"id": one.session_id, "kind": one.kind, "paths": differing_paths(one)})

    # between runs

    def keep(self, folder: Path) -> None:
        """In a file of *folder*, by its id."""
        replace_file(file_of(folder, self.id), json.dumps(asdict(self)).encode())

    @classmethod
    def kept(cls, folder: Path, id: str) -> Verification:
        """Raises ``StorageConfigurationError`` where there is none of this *id*."""
        try:
            return cls(**json.loads(file_of(folder, id).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise StorageConfigurationError(f"no verification {id!r} beside the plan") from error


def file_of(folder: Path, id: str) -> Path:
    """Where the verification *id* is kept."""
    return folder / f"verify-{id}.json"


async def verify_live(
    storage: IUnifiedStorage,
    legacy: LegacySide,
    *,
    begun: Verification | None = None,
    only: Sequence[str] | None = None,
    max_report: int = MAX_REPORT,
    folder: Path | None = None,
    on_progress: Callable[[Verification], None] | None = None,
) -> Verification:
    """Compare the sessions of both stores; a difference counts where it stays while nobody writes the session.

    Args:
        begun: goes on with this one, and takes the share of sessions to compare from it.
        only: session ids; None for all of both stores.
        folder: keeps after each batch how far it is.
    """
    state = begun or Verification()
    roster = Roster()
    try:
        if only is None:
            await roster.fill(storage, legacy, orphans=True)
        else:
            roster.add(only)
        state.total = roster.total
        while ids := roster.behind(state.after, BATCH):
            await _batch(storage, legacy, state, ids, max_report)
            if folder is not None:
                await asyncio.to_thread(state.keep, folder)
            if on_progress is not None:
                on_progress(state)
        state.complete = True
        if folder is not None:
            await asyncio.to_thread(state.keep, folder)
        return state
    finally:
        roster.close()


async def _batch(
    storage: IUnifiedStorage, legacy: LegacySide, state: Verification, ids: Sequence[str], max_report: int
) -> None:
    chosen = [id for id in ids if _in_sample(id, state.sample)]
    state.passed_over += len(ids) - len(chosen)
    for one in await compared(storage, legacy, [visible(id) for id in chosen]):
        state.add(one, max_report)
    state.after = ids[-1]


def visible(id: str) -> str:
    """The session id of a record's *id*."""
    return id[1:] if id.startswith("~~") else id


def _in_sample(id: str, percent: float) -> bool:
    digits = hashlib.sha256(id.encode()).hexdigest()[:8]
    return int(digits, 16) < percent / 100 * (1 << 32)


def differing_paths(one: Compared, *, most: int = 10) -> list[str]:
    """Where two documents differ, without what they hold there."""
    if isinstance(one.legacy, StorageError):
        return [one.legacy.error_code.lower()]
    if one.legacy is None or one.unified.document is None:
        return []
    return sorted(_paths(one.legacy, one.unified.document, "data"))[:most]


def _paths(left: Any, right: Any, path: str) -> set[str]:
    if type(left) is not type(right):
        return {path}
    if isinstance(left, dict):
        names = sorted({*left, *right}, key=str)
        return set().union(*(_paths_in(left, right, name, path) for name in names))
    if isinstance(left, list):
        if len(left) != len(right):
            return {path}
        pairs = enumerate(zip(left, right, strict=True))
        return set().union(*(_paths(one, other, f"{path}[{at}]") for at, (one, other) in pairs))
    return set() if repr(left) == repr(right) else {path}


def _paths_in(left: dict[str, Any], right: dict[str, Any], name: str, path: str) -> set[str]:
    if name not in left or name not in right:
        return {f"{path}.{name}"}
    return _paths(left[name], right[name], f"{path}.{name}")
