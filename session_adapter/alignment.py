"""Which entries of a log stay when a list is saved, which are dropped, and what is new. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from session_adapter.documents import order_free
from unified_storage.values import decode, encode


@dataclass(frozen=True, eq=False, slots=True)
class Standing:
    """An entry that is in the log.

    Attributes:
        entry: as it was read.
        texts: the exact text of each element it adds to the list: one, several for a whole run, or none.
        held: whether a saved list has held it, so that a list without it means that it is to go.
    """

    entry: dict[str, Any]
    texts: list[str]
    held: bool


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """One place of the log as it is to be: an entry that stays, or (``standing`` None) a new one.

    Attributes:
        texts: what it adds to the list.
        held: whether the saved list holds it.
    """

    standing: Standing | None
    texts: list[str]
    held: bool


def aligned(standing: Sequence[Standing], wanted: Sequence[str], *, exact: bool = False) -> list[Placed]:
    """The log that shows *wanted*, a list of exact texts, keeping of *standing* what it can.

    Entries stay as far as the list begins with them. Behind that the list counts: what it has no more is dropped, what
    it still has keeps its entry. But an entry that no saved list has held and that this one does not have either stays
    where it is, before the list's new elements.

    Args:
        exact: the caller has seen everything, so that nothing stays which the list does not have.
    """
    elements = _Wanted(wanted)
    result: list[Placed] = []
    place = 0
    for number, one in enumerate(standing):
        if elements.has(one.texts, place):
            result.append(Placed(one, one.texts, held=True))
            place += len(one.texts)
        elif one.held or exact or elements.first(one.texts, place) is not None:
            return result + _rearranged(standing[number:], elements, place, exact)
        else:
            result.append(Placed(one, one.texts, held=False))
    return result + [_new(text) for text in wanted[place:]]


def _rearranged(rest: Sequence[Standing], elements: _Wanted, place: int, exact: bool) -> list[Placed]:
    found: dict[int, Standing] = {}
    after = place
    for one in rest:  # first those that must not be lost, in their order
        if one.texts and not (one.held or exact) and (at := elements.first(one.texts, after)) is not None:
            found[at] = one
            after = at + len(one.texts)
            elements.take(at, after)
    for one in rest:
        if one.texts and (one.held or exact) and (at := elements.first(one.texts, place)) is not None:
            found[at] = one
            elements.take(at, at + len(one.texts))
    again = {id(one) for one in found.values()}
    kept = [one for one in rest if id(one) not in again and not (one.texts and (one.held or exact))]
    return [Placed(one, one.texts, held=not one.texts) for one in kept] + _listed(found, elements.texts, place)


def _listed(found: dict[int, Standing], texts: Sequence[str], place: int) -> list[Placed]:
    result = []
    while place < len(texts):
        one = found.get(place)
        result.append(_new(texts[place]) if one is None else Placed(one, one.texts, held=True))
        place += 1 if one is None else len(one.texts)
    return result


def _new(text: str) -> Placed:
    return Placed(None, [text], held=True)


class _Wanted:
    """The elements of a list: whether some stand at a place, and where they stand next."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._taken: set[int] = set()
        self._identities: dict[str, str] = {}

    def has(self, texts: Sequence[str], place: int) -> bool:
        """Whether *texts* stand at *place*, one behind the other."""
        if place + len(texts) > len(self.texts):
            return False
        return all(self._same(text, self.texts[place + step]) for step, text in enumerate(texts))

    def first(self, texts: Sequence[str], place: int) -> int | None:
        """The first free place from *place* on where *texts* stand; None for none, and for no texts."""
        places = self._places.get(self._identity(texts[0]), []) if texts else []
        for at in places[bisect_left(places, place) :]:
            if self.has(texts, at) and self._taken.isdisjoint(range(at, at + len(texts))):
                return at
        return None

    def take(self, start: int, end: int) -> None:
        """Nothing else is found at these places."""
        self._taken.update(range(start, end))
        for at in range(start, end):
            self._places[self._identity(self.texts[at])].remove(at)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, text in enumerate(self.texts):
            places.setdefault(self._identity(text), []).append(at)
        return places

    def _same(self, one: str, other: str) -> bool:
        return one == other or self._identity(one) == self._identity(other)

    def _identity(self, text: str) -> str:
        """The text of an equal value whose keys are in order, so that who sorts keys has edited nothing."""
        if text not in self._identities:
            self._identities[text] = encode(order_free(decode(text)))
        return self._identities[text]
