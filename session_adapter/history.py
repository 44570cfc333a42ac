"""Bringing a session's log to the list that was saved, writing no more than changed and losing nothing unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from session_adapter.alignment import Placed, Standing, aligned
from session_adapter.entries import element_entry, history_of, shown_elements
from session_adapter.formats import Format
from session_adapter.identity import SESSION
from session_adapter.metadata import OWN, own_fields
from session_adapter.naming import without_name
from session_adapter.timestamps import Zone
from session_adapter.trace import Trace, digests
from unified_storage.interface import Entries, Entry, IUnifiedStorage, Record
from unified_storage.record import REPLACE
from unified_storage.values import decode, encode

_FEW = 4
"""So many entries are withdrawn from the end one by one; for more, or any further in, the log is rewritten."""


@dataclass(frozen=True)
class History:
    """The log of one session, in the transaction that saves its document.

    Attributes:
        format: of the document that is saved; the list is in its form.
        trace: what the record remembers of its list, by the same form of elements; None where it has had none.
        exact: the caller has seen every entry, so the log shows exactly the list afterwards.
    """

    tx: IUnifiedStorage
    log_id: str
    format: Format
    trace: Trace | None
    zone: Zone
    exact: bool = False

    async def show(self, texts: list[str]) -> Trace:
        """Bring the log to the list of *texts*; what the record is to remember of it."""
        trace = self.trace or Trace()
        info = await self.tx.log_info(self.log_id) or {"last_seq": 0, "count": 0}
        fresh = await self.tx.read(self.log_id, after=trace.last_seq) if info["last_seq"] > trace.last_seq else []
        if info["count"] - len(fresh) == trace.entries and trace.digest is not None:
            extended = await self._extend(trace, fresh, texts)
            if extended is not None:
                return extended
        return await self._replace(texts)

    async def clear(self) -> None:
        """The document has no list any more: what saved lists have held goes."""
        if self.trace is not None:
            await self._replace([])

    # without reading what is known

    async def _extend(self, trace: Trace, fresh: Entries, texts: list[str]) -> Trace | None:
        """The new trace where the list goes on from the known one, or differs in its last element; else None."""
        known = trace.elements
        chain = digests(texts[:known])
        if len(chain) == known + 1 and chain[known] == trace.digest:
            return await self._append_tail(trace, fresh, texts[known:])
        only_last_differs = len(chain) >= known > 0 and chain[known - 1] == trace.before
        if only_last_differs and not fresh and trace.was_saved(trace.last_seq):
            await self.tx.pop(self.log_id)
            shorter = replace(trace, entries=trace.entries - 1, elements=known - 1, digest=trace.before, before=None)
            return await self._append_tail(shorter, [], texts[known - 1 :])
        return None

    async def _append_tail(self, trace: Trace, fresh: Entries, tail: list[str]) -> Trace | None:
        standing = [self._standing(entry, held=False) for entry in fresh]
        places = aligned(standing, tail, exact=self.exact)
        if [place.standing for place in places[: len(standing)]] != standing:
            return None  # something among the fresh entries has to give way
        numbers = await self._bring(standing, places)
        return _followed(trace, places, numbers)

    # with everything read

    async def _replace(self, texts: list[str]) -> Trace:
        trace = self.trace or Trace()
        entries = await self.tx.read(self.log_id)
        standing = [self._standing(entry, held=trace.was_saved(entry["seq"])) for entry in entries]
        places = aligned(standing, texts, exact=self.exact)
        numbers = await self._bring(standing, places)
        return _followed(Trace(), places, numbers)

    def _standing(self, entry: Entry, *, held: bool) -> Standing:
        return Standing(entry, [encode(item) for item in shown_elements(entry["body"], self.format)], held)

    async def _bring(self, standing: Sequence[Standing], places: Sequence[Placed]) -> list[int]:
        """Make *places* of what is standing at the end of the log; their numbers."""
        entries = [place.standing.entry if place.standing else self._new_entry(place.texts[0]) for place in places]
        return await brought(self.tx, self.log_id, [one.entry for one in standing], entries)

    def _new_entry(self, text: str) -> dict[str, Any]:
        return element_entry(decode(text), self.format, self.zone)


async def brought(tx: IUnifiedStorage, log_id: str, present: Entries, wanted: Sequence[Entry]) -> list[int]:
    """Make the log's newest entries, which are *present*, into *wanted*; the numbers of these.

    Args:
        wanted: entries of *present* (the same objects) stay with key and time, the others are new.
    """
    same = next((at for at, (one, other) in enumerate(zip(present, wanted, strict=False)) if one is not other), None)
    common = min(len(present), len(wanted)) if same is None else same
    if len(present) - common > _FEW:
        return await _rewritten(tx, log_id, present, wanted)
    for _ in present[common:]:
        await tx.pop(log_id)
    drafts = [_draft(entry) for entry in wanted[common:]]
    return [entry["seq"] for entry in wanted[:common]] + (await tx.append(log_id, drafts) if drafts else [])


async def _rewritten(tx: IUnifiedStorage, log_id: str, present: Entries, wanted: Sequence[Entry]) -> list[int]:
    """Make a whole log, which is *present*, into *wanted*: entries that stay keep their numbers where that can be."""
    info = await tx.log_info(log_id) or {"last_seq": 0}
    numbers = _numbers(present, wanted, info["last_seq"])
    if numbers is None:
        return await tx.rewrite(log_id, [_draft(entry) for entry in wanted])
    blank = {"key": None, "created_at": tx.clock()}
    entries = [blank | _draft(entry) | {"seq": seq} for entry, seq in zip(wanted, numbers, strict=True)]
    last_seq = max([info["last_seq"], *numbers])
    await tx.restore([], [{"log_id": log_id, "last_seq": last_seq, "entries": entries}])
    return numbers


def _numbers(present: Entries, wanted: Sequence[Entry], last_seq: int) -> list[int] | None:
    """The numbers of *wanted*: those that they have, new ones at the end; None where a new one stands between."""
    known = {entry["seq"] for entry in present}
    stays = [entry["seq"] for entry in wanted if entry.get("seq") in known]
    if stays != [entry.get("seq") for entry in wanted[: len(stays)]] or sorted({*stays}) != stays:
        return None
    return [*stays, *range(last_seq + 1, last_seq + 1 + len(wanted) - len(stays))]


async def edited(tx: IUnifiedStorage, head: Record, present: Entries, wanted: Sequence[Entry]) -> list[int]:
    """Make a session's log, which is *present* whole, into *wanted* without a list that says so; the numbers of these.

    What the record remembers follows, so that the next list saved is compared with what is there now.
    """
    trace = Trace.kept(own_fields(head).get("history"))
    numbers = await brought(tx, history_of(head["id"]), present, wanted)
    own = without_name(head, _changed(present, wanted))
    if trace is not None:
        unheld = [number for number, entry in zip(numbers, wanted, strict=True) if not trace.was_saved(entry["seq"])]
        moved = replace(trace.void(), last_seq=max([0, *numbers]), unheld=frozenset(unheld))
        own["history"] = REPLACE(moved.facts())
    if own:
        await mark(tx, head, **own)
    return numbers


def _changed(present: Entries, wanted: Sequence[Entry]) -> list[int]:
    """The numbers of *present* entries that do not stay at their places as they are."""
    return [entry["seq"] for entry, other in zip_longest(present, wanted[: len(present)]) if entry is not other]


async def replaced_in_place(tx: IUnifiedStorage, head: Record, numbers: Sequence[int]) -> None:
    """Let the record forget the texts of its list where one of the entries *numbers* may show in it."""
    trace = Trace.kept(own_fields(head).get("history"))
    if trace is not None and trace.digest is not None and min(numbers, default=trace.last_seq + 1) <= trace.last_seq:
        await mark(tx, head, history=REPLACE(trace.void().facts()))


async def mark(tx: IUnifiedStorage, head: Record, **own: Any) -> None:
    """Set some of our own fields of a record."""
    await tx.update(head["id"], {"metadata": {OWN: own}}, type=SESSION)


def _draft(entry: Entry) -> dict[str, Any]:
    return {name: entry[name] for name in ("body", "key", "created_at") if name in entry}


def _followed(trace: Trace, places: Sequence[Placed], numbers: Sequence[int]) -> Trace:
    """*trace* with *places* behind it; all that it knew of is held by the list that led here."""
    texts = [text for place in places for text in place.texts]
    chain = digests(texts, trace.digest or "")
    return Trace(
        entries=trace.entries + len(places),
        elements=trace.elements + len(texts),
        last_seq=max([trace.last_seq, *numbers]),
        digest=chain[-1],
        before=_before(trace, places, chain),
        unheld=frozenset(number for place, number in zip(places, numbers, strict=True) if not place.held),
    )


def _before(trace: Trace, places: Sequence[Placed], chain: Sequence[str]) -> str | None:
    if not places:
        return trace.before
    return chain[-2] if len(places[-1].texts) == 1 else None
