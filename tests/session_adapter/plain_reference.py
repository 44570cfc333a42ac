"""What sessions with histories must do, said with Python lists: the reference that the random runs compare with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from session_adapter.formats import CANONICAL, G0, G1, G2, G3, Format
from unified_storage import StorageConflictError

MESSAGE_FORMATS = (G0, G1, G2)
LISTED = (*MESSAGE_FORMATS, G3)

Element = dict[str, Any]


def document(format: Format, elements: list[Element], note: str) -> dict[str, Any]:
    """A document of *format* with *elements* as its message list, where it has one."""
    if format is G0:
        return {"workflow_state": {"messages": elements}, "settings": {"note": note}}
    if format is G1:
        return {"metadata": {"status": note}, "state": {"messages": elements, "step": 1}}
    if format is G2:
        return {"metadata": {"workflow_summary": {}, "status": note}, "state": {"messages": elements}}
    if format is G3:
        return {"context": {"status": note}, "interactions": elements}
    return {"session_id": "s", "settings": {"note": note}} if format is CANONICAL else {"settings": {"note": note}}


def element(format: Format, content: str) -> Element:
    """A new element of the list of a document of *format*."""
    if format is G3:
        return {"interaction_type": "user_request", "content": content, "metadata": {"n": 1}}
    return {"type": "HumanMessage", "content": content, "additional_kwargs": {"n": 1}}


@dataclass(eq=False)
class One:
    """An entry: what its writer wrote, and whether a saved list has held it."""

    format: Format
    value: Element
    held: bool

    def shown_in(self, format: Format) -> Element:
        if self.format is format or {self.format, format} <= set(MESSAGE_FORMATS):
            return self.value
        event = self.format.to_event(self.value)
        assert event is not None
        return format.from_event(event)


@dataclass
class Reference:
    """One session, as plain as can be: every save rebuilds the whole list."""

    format: Format | None = None
    note: str = ""
    entries: list[One] = field(default_factory=list)
    version: int = 0
    """Counts changes; only whether it moved means anything."""

    def elements(self) -> list[Element]:
        assert self.format is not None
        return [one.shown_in(self.format) for one in self.entries] if self.format in LISTED else []

    def shown(self) -> dict[str, Any] | None:
        return None if self.format is None else document(self.format, self.elements(), self.note)

    def contents(self) -> list[str]:
        return [one.value["content"] for one in self.entries]

    def save(self, format: Format, listed: list[Element], note: str, expected: int | None = None) -> None:
        self._check(expected)
        exact = expected is not None and self.format in LISTED
        if format in LISTED:
            self._show(format, listed, exact)
        elif self.format in LISTED:
            self.entries = [one for one in self.entries if not (one.held or exact)]
        if format not in LISTED:  # what stays is in no list, so none has held it
            self.entries = [replace(one, held=False) for one in self.entries]
        self.format, self.note = format, note
        self.version += 1

    def _show(self, format: Format, listed: list[Element], exact: bool) -> None:
        was = self.entries if self.format in LISTED else [replace(one, held=False) for one in self.entries]
        unseen = [one for one in was if not (one.held or exact) and one.shown_in(format) not in listed]
        seen = [one for one in was if one not in unseen]
        common = 0
        while common < min(len(seen), len(listed)) and seen[common].shown_in(format) == listed[common]:
            common += 1
        upto = was.index(seen[common]) if common < len(seen) else len(was)
        stay = [one if one in unseen else replace(one, held=True) for one in was[:upto]]
        self.entries = stay + [one for one in was[upto:] if one in unseen]
        self.entries += [One(format, value, held=True) for value in listed[common:]]

    def append(self, event: dict[str, Any], expected: int | None = None) -> None:
        self._check(expected)
        self.entries.append(One(CANONICAL, event, held=False))
        self.version += 1

    def pop(self) -> str | None:
        if not self.entries:
            return None
        self.version += 1
        content: str = self.entries.pop().value["content"]
        return content

    def _check(self, expected: int | None) -> None:
        if expected is not None and expected != self.version:
            raise StorageConflictError("the reference has moved on")
