"""A service in the shadow of another: both are asked the same, and what they answer is compared.

Only GET is asked, so neither is changed. They see the same sessions where both are on one database, or one is on a copy
of the other's that nobody writes to meanwhile.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from session_api.client import Answer, Service
from unified_storage.errors import StorageValidationError

VOLATILE = frozenset({"search_time_ms"})
"""Keys of bodies whose values differ from one request to the next."""

_SHUT = frozenset({401, 403, 429})
_MOST_KEPT = 1000
_MOST_PLACES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where two answers differ.

    Attributes:
        path: ``status``, ``media_type``, or into the body: ``body.data.0.session_name``.
        old, new: what stands there; :data:`ABSENT` where nothing does.
    """

    path: str
    old: Any
    new: Any


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """A request that was answered differently.

    Attributes:
        places: the first twenty.
    """

    target: str
    places: tuple[Place, ...]

    def to_dict(self, *, show_values: bool = False) -> dict[str, Any]:
        """As JSON; without *show_values* no word of what the answers say."""
        if not show_values:
            return {"target": self.target, "places": [place.path for place in self.places]}
        return {"target": self.target, "places": [_with_values(place) for place in self.places]}


def _with_values(place: Place) -> dict[str, Any]:
    told = {"old": place.old, "new": place.new}
    return {"path": place.path, **{name: value for name, value in told.items() if value is not ABSENT}}


@dataclass
class ShadowReport:
    """What came of a comparison.

    Attributes:
        old, new: the services, without passwords.
        same, different: requests.
        differences: the first thousand.
        old_seconds, new_seconds: how long each request that was answered took.
    """

    old: str
    new: str
    same: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    old_seconds: list[float] = field(default_factory=list)
    new_seconds: list[float] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.same + self.different

    @property
    def percent(self) -> float:
        """Of the requests compared, how many were answered differently."""
        return 100 * self.different / self.compared

    def to_dict(self, *, show_values: bool = False) -> dict[str, Any]:
        """As JSON."""
        return {
            "old": self.old,
            "new": self.new,
            "compared": self.compared,
            "same": self.same,
            "different": self.different,
            "percent": round(self.percent, 3),
            "milliseconds": {"old": milliseconds(self.old_seconds), "new": milliseconds(self.new_seconds)},
            "differences": [one.to_dict(show_values=show_values) for one in self.differences],
        }


def milliseconds(seconds: list[float]) -> dict[str, float] | None:
    """The median of *seconds* and what 99 of 100 stay under; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return {"median": round(statistics.median(ordered) * 1000, 1), "p99": round(late * 1000, 1)}


def compare_services(
    old: Service, new: Service, targets: Iterable[str], *, ignored: Collection[str] = ()
) -> ShadowReport:
    """Ask *old* and *new* each of *targets*, both at the same time, and compare the answers.

    The order of an object's keys does not count, its values' JSON types do: 1, 1.0 and true are three. No answer, one
    of 500 and above, and one that lets nobody in is never the same as another: two services that are both broken, or
    both shut, do not agree.

    Args:
        targets: paths with their queries.
        ignored: keys that are left out wherever they stand in a body, besides :data:`VOLATILE`.
    Raises:
        StorageValidationError: there is nothing to ask.
    """
    report = ShadowReport(old.name, new.name)
    unlooked = VOLATILE | frozenset(ignored)
    with ThreadPoolExecutor(1) as beside:
        for target in targets:
            asked = beside.submit(new.get, target)
            _note(report, target, old.get(target), asked.result(), unlooked)
    if not report.compared:
        raise StorageValidationError("nothing was compared: no request for sessions is there to be asked")
    return report


def _note(report: ShadowReport, target: str, old: Answer, new: Answer, ignored: Collection[str]) -> None:
    for answer, seconds in ((old, report.old_seconds), (new, report.new_seconds)):
        if answer.status:
            seconds.append(answer.seconds)
    places = tuple(islice(places_between(old, new, ignored), _MOST_PLACES))
    if not places:
        report.same += 1
        return
    report.different += 1
    if len(report.differences) < _MOST_KEPT:
        report.differences.append(Difference(target, places))


def places_between(old: Answer, new: Answer, ignored: Collection[str] = VOLATILE) -> Iterator[Place]:
    """Where the two answers differ, from the outside to the inside."""
    if old.status != new.status or _says_nothing(old):
        yield Place("status", old.status, new.status)
    if old.media_type != new.media_type:
        yield Place("media_type", old.media_type, new.media_type)
    yield from _between(old.body, new.body, "body", ignored)


def _says_nothing(answer: Answer) -> bool:
    return answer.status == 0 or answer.status >= 500 or answer.status in _SHUT


def _between(old: Any, new: Any, path: str, ignored: Collection[str]) -> Iterator[Place]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(key for key in new if key not in old)):
            if key not in ignored:
                yield from _between(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}", ignored)
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            yield from _between(_item(old, at), _item(new, at), f"{path}.{at}", ignored)
    elif type(old) is not type(new) or old != new:
        yield Place(path, old, new)


def _item(items: list[Any], at: int) -> Any:
    return items[at] if at < len(items) else ABSENT
