"""What clients did while sessions moved, and whether both stores and every read agree with it.

Each client process writes its own file, line by line to the disk: one line before a call, one line after it. Values
are unique. Times are of the machine's monotonic clock, which all its processes share and no faked wall clock touches;
"before" means that one line's time is smaller. At any time one client writes an id; ids pass between processes.

An operation is over with its answer, "ok" or "error"; an error may have taken effect. One without an answer, or with
the answer "unknown" (a time-out: a thread may still write), is over when its process is dead, which a line of whoever
saw that says; without such a line it is never over, and may take effect at any time.
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from unified_storage import StorageTimeoutError

Kind = Literal["save", "delete", "get"]
Fault = Literal["lost", "resurrected", "unseen", "invented", "doubled", "disordered", "different"]
Interval = tuple[int, int]


@dataclass(frozen=True)
class Content:
    """A session as a reader finds it: its unique value, and its events in order."""

    value: str
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Violation:
    fault: Fault
    id: str
    text: str


# --- writing it down -------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One operation under way; `found` is what a get returns."""

    number: int
    found: Content | None = None


class HistoryLog:
    """One client's file. A line is on the disk before the next thing happens."""

    def __init__(self, path: Path, client: str) -> None:
        self._client = client
        self._number = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def invoke(self, kind: Kind, id: str, content: Content | None = None) -> int:
        """Write down what is about to be called; the number is for its answer."""
        self._number += 1
        self._write(t="invoke", op=self._number, id=id, kind=kind, **as_fields(content))
        return self._number

    def ok(self, number: int, found: Content | None = None) -> None:
        self._write(t="ok", op=number, **as_fields(found))

    def error(self, number: int) -> None:
        self._write(t="error", op=number)

    def unknown(self, number: int) -> None:
        self._write(t="unknown", op=number)

    def died(self, client: str) -> None:
        """Another client's process is seen dead: nothing of it is under way any more."""
        self._write(t="dead", dead=client)

    @contextmanager
    def operation(self, kind: Kind, id: str, content: Content | None = None) -> Iterator[Call]:
        """Around one call: a time-out or a cancellation is "unknown", whatever else it raises an "error"."""
        call = Call(self.invoke(kind, id, content))
        try:
            yield call
        except BaseException as error:
            answered = isinstance(error, Exception) and not isinstance(error, (TimeoutError, StorageTimeoutError))
            (self.error if answered else self.unknown)(call.number)
            raise
        self.ok(call.number, call.found)

    def _write(self, **line: Any) -> None:
        text = json.dumps({"client": self._client, "at": time.monotonic_ns(), **line})
        os.write(self._file, f"{text}\n".encode())
        os.fsync(self._file)


def as_fields(content: Content | None) -> dict[str, Any]:
    if content is None:
        return {"value": None}
    return {"value": content.value} | ({"events": list(content.events)} if content.events else {})


# --- reading it back -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    client: str
    number: int
    id: str
    kind: Kind
    content: Content | None  # what a save wrote, what a get found
    invoked: float
    ended: float = math.inf
    acknowledged: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind} {self.client}#{self.number}"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every whole line; what follows the last line end was not on the disk when the process died."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def operations(histories: Iterable[Path]) -> list[Operation]:
    """What all clients did, in the order of their calls."""
    lines = sorted((line for path in histories for line in lines_of(path)), key=lambda line: line["at"])
    known: dict[str, dict[int, Operation]] = defaultdict(dict)
    for line in lines:
        if line["t"] == "dead":
            end_all(known[line["dead"]], line["at"])
        elif line["t"] == "invoke":
            known[line["client"]][line["op"]] = invoked(line)
        elif line["t"] != "unknown":
            calls = known[line["client"]]
            calls[line["op"]] = answered(calls[line["op"]], line)
    done = [operation for calls in known.values() for operation in calls.values()]
    return sorted(done, key=lambda operation: operation.invoked)


def invoked(line: Mapping[str, Any]) -> Operation:
    return Operation(line["client"], line["op"], line["id"], line["kind"], content_of(line), line["at"])


def answered(operation: Operation, line: Mapping[str, Any]) -> Operation:
    content = content_of(line) if operation.kind == "get" else operation.content
    return replace(operation, content=content, ended=line["at"], acknowledged=line["t"] == "ok")


def end_all(calls: dict[int, Operation], at: int) -> None:
    for number, operation in calls.items():
        if operation.ended == math.inf:
            calls[number] = replace(operation, ended=at)


def content_of(line: Mapping[str, Any]) -> Content | None:
    value = line.get("value")
    return None if value is None else Content(value, tuple(line.get("events", ())))


# --- one id ----------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What happened to one id, and from when on each of its writes is too old to be read."""

    id: str
    writes: list[Operation]
    gets: list[Operation]
    outdated: dict[int, tuple[float, Fault]] = field(init=False)  # by position in writes

    def __post_init__(self) -> None:
        self.outdated = {}
        for position, write in enumerate(self.writes):
            later = [newer for newer in self.writes if newer.acknowledged and write.ended < newer.invoked]
            if later:
                first = min(later, key=lambda newer: newer.ended)
                newest = max(later, key=lambda newer: newer.invoked)
                self.outdated[position] = (first.ended, "resurrected" if newest.kind == "delete" else "lost")

    def observe(self, quiet: Sequence[Interval]) -> None:
        """What was seen while nothing was under way makes older all that was acknowledged or seen before."""
        seen: set[int] = set()
        for get in sorted(self.gets, key=lambda get: get.ended):
            if not self.in_quiet(get, quiet) or self.complaint(get.content, get.invoked, get.ended):
                continue
            position = self.written(get.content)
            for other, write in enumerate(self.writes):
                before = other in seen or (write.acknowledged and write.ended < get.invoked)
                newer = other == position or (get.content is None and write.kind == "delete")
                if before and not newer and get.ended < self.outdated.get(other, (math.inf, ""))[0]:
                    self.outdated[other] = (get.ended, "unseen")
            if position is not None:
                seen.add(position)

    def in_quiet(self, get: Operation, quiet: Sequence[Interval]) -> bool:
        if not get.acknowledged or not any(start < get.invoked and get.ended < end for start, end in quiet):
            return False
        return not any(write.invoked < get.ended and get.invoked < write.ended for write in self.writes)

    def written(self, content: Content | None) -> int | None:
        """The position of the save that wrote this value."""
        if content is None:
            return None
        return next((at for at, write in enumerate(self.writes) if value_of(write) == content.value), None)

    def complaint(self, content: Content | None, since: float, until: float) -> Violation | None:
        """What is wrong with a read of *content* that began at *since* and ended at *until*."""
        if content is None:
            return self.wrong_absence(since, until)
        position = self.written(content)
        if position is None or self.writes[position].invoked > until:
            return Violation("invented", self.id, f"{content.value!r} was not written by then")
        at, fault = self.outdated.get(position, (math.inf, "lost"))
        if at < since:
            return Violation(fault, self.id, f"{content.value!r} of {self.writes[position].name} is too old")
        return wrong_events(self.id, content, self.writes[position])

    def wrong_absence(self, since: float, until: float) -> Violation | None:
        faults: list[Fault] = []
        for position, write in enumerate(self.writes):
            if write.kind == "delete" and write.invoked <= until:
                at, fault = self.outdated.get(position, (math.inf, "lost"))
                if at >= since:
                    return None
                faults.append("lost" if fault == "resurrected" else fault)
        return Violation("unseen" if "unseen" in faults else "lost", self.id, "nothing is there")


def value_of(write: Operation) -> str | None:
    return write.content.value if write.content is not None else None


def wrong_events(id: str, found: Content, write: Operation) -> Violation | None:
    """Each event is there once, in the order in which the save that wrote them gave them."""
    wanted = write.content.events if write.content else ()
    if found.events == wanted:
        return None
    doubled = sorted({event for event in found.events if found.events.count(event) > wanted.count(event)})
    missing = [event for event in wanted if event not in found.events]
    if doubled:
        kind: Fault = "invented" if any(event not in wanted for event in doubled) else "doubled"
        return Violation(kind, id, f"events {doubled} of {write.name}")
    if missing:
        return Violation("lost", id, f"events {missing} of {write.name}")
    return Violation("disordered", id, f"events of {write.name} are {list(found.events)}")


def stories(done: Iterable[Operation], ids: Iterable[str], initial: Mapping[str, Content]) -> Iterator[Story]:
    by_id: dict[str, list[Operation]] = defaultdict(list)
    for operation in done:
        by_id[operation.id].append(operation)
    for id in sorted({*by_id, *ids}):
        start = first_write(id, initial.get(id))
        yield Story(
            id,
            [start, *(operation for operation in by_id[id] if operation.kind != "get")],
            [operation for operation in by_id[id] if operation.kind == "get"],
        )


def first_write(id: str, content: Content | None) -> Operation:
    """What the id had before anybody called, as an acknowledged write of long ago."""
    kind: Kind = "delete" if content is None else "save"
    return Operation("start", 0, id, kind, content, -math.inf, -math.inf, acknowledged=True)


# --- the whole run ---------------------------------------------------------------------------------------------


def check(
    histories: Iterable[Path],
    legacy_content: Mapping[str, Content],
    unified_content: Mapping[str, Content],
    phase: int,
    *,
    initial: Mapping[str, Content] | None = None,
    quiet: Sequence[Interval] = (),
    complete: bool = True,
    unsettled: Iterable[str] = (),
) -> list[Violation]:
    """Everything that is wrong after a run, ordered by id.

    Args:
        phase: what the migration is in now; 0-2 is read from the legacy store, 3-4 from the unified one.
        initial: what the legacy store had before the first call.
        quiet: times of the monotonic clock between which every member read the same store; what a get saw there while
            nobody wrote the id must stay seen.
        complete: a pass that counts is complete, so in phases 1-3 the stores must be equal.
        unsettled: ids with an open intent, a suspect mark or a journal entry, which may differ.
    """
    done = operations(histories)
    refuse_double_values(done)
    primary, other = (legacy_content, unified_content) if phase <= 2 else (unified_content, legacy_content)
    ids = {*legacy_content, *(unified_content if phase else ()), *(initial or {})}
    exempt = {*unsettled} if complete and phase in (1, 2, 3) else None
    found: list[Violation] = []
    for story in stories(done, ids, initial or {}):
        story.observe(quiet)
        reads = [(get.content, get.invoked, get.ended) for get in story.gets if get.acknowledged]
        reads.append((primary.get(story.id), math.inf, math.inf))
        found += [wrong for read in reads if (wrong := story.complaint(*read))]
        if exempt is not None and story.id not in exempt and primary.get(story.id) != other.get(story.id):
            found.append(difference(story.id, primary.get(story.id), other.get(story.id)))
    return found


def difference(id: str, primary: Content | None, other: Content | None) -> Violation:
    return Violation("different", id, f"the store that is read has {primary}, the other {other}")


def refuse_double_values(done: Iterable[Operation]) -> None:
    """A value that two saves wrote tells nothing: the clients are wrong, not the stores."""
    saved = [(operation.id, value_of(operation)) for operation in done if operation.kind == "save"]
    if len(saved) != len(set(saved)):
        raise ValueError("two saves of one id wrote the same value")
