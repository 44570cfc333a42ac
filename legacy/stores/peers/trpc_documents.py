"""From what Redis says of a session of tRPC-Agent-Go to its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from legacy.stores.file_reading import FileRefused, parse
from legacy.stores.parcels import IGNORED, QUARANTINED, Item
from legacy.stores.peers.kinds import Found, PeerSession, Unit
from legacy.stores.peers.redis_keys import moment, pairs
from legacy.stores.peers.trpc_names import V2
from session_adapter.formats.trpc_agent import decoded, encoded, nanoseconds, spelled
from session_adapter.identity import SessionKey


class Answers:
    """What was asked of a session; see ``Names.questions``.

    Attributes:
        tracks: track -> the answers to ``Names.track_questions``.
    """

    def __init__(
        self,
        layout: str,
        text: bytes | None,
        expires: int,
        summaries: bytes | None,
        tracks: Sequence[bytes],
        times: Sequence[bytes],
        data: Sequence[bytes] = (),
        indexed: bytes | None = None,
    ) -> None:
        self.layout = layout
        self.text = text
        self.expires = expires
        self.summaries = summaries
        self.track_names = [name.decode(errors="surrogateescape") for name in tracks]
        self.times = [(member, float(score)) for member, score in pairs(times)]
        self.data = dict(pairs(data))
        self.indexed = indexed
        self.tracks: dict[str, list[Any]] = {}


def session_of(unit: Unit, answers: Answers) -> Found | Item:
    """The session that *unit* names; an Item where it is damaged, or has vanished."""
    key = unit.key
    assert isinstance(key, SessionKey)
    if answers.text is None:
        return Item(unit.label, key.session_id, IGNORED, ("vanished",))
    try:
        return _session(unit, key, answers)
    except FileRefused as refused:
        return Item(unit.label, key.session_id, QUARANTINED, (refused.reason,), detail=refused.detail)
    except UnicodeDecodeError:
        return Item(unit.label, key.session_id, QUARANTINED, ("encoding",))


def _session(unit: Unit, key: SessionKey, answers: Answers) -> PeerSession:
    assert answers.text is not None
    session = _object(answers.text)
    document: dict[str, Any] = {
        "app_name": key.app_name,
        "user_id": key.user_id,
        "session_id": key.session_id,
        "layout": answers.layout,
        "session": session | {"state": decoded(session["state"])} if "state" in session else session,
    }
    document |= _text_of("session_text", answers.text, session)
    if answers.summaries is not None:
        document["summaries"] = summaries = _object(answers.summaries)
        document |= _text_of("summaries_text", answers.summaries, summaries)
    if answers.indexed is not None:
        document["indexed"] = answers.indexed.decode()
    elements, warnings = _events(answers)
    document["events"] = elements
    sizes = (answers.text, *(member for member, _ in answers.times), *answers.data.values())
    return PeerSession(
        key,
        document,
        {f"track:{track}": _track(answers.layout, told) for track, told in answers.tracks.items()},
        expires_at=moment(answers.expires),
        warnings=tuple(warnings),
        label=unit.label,
        size=sum(map(len, sizes)),
    )


def _object(text: bytes) -> dict[str, Any]:
    value = parse(text).value
    if not isinstance(value, dict):
        raise FileRefused("invalid_shape")
    return value


def _text_of(name: str, text: bytes, value: Any) -> dict[str, str]:
    """*text* under *name*, where Go would spell *value* otherwise."""
    found = text.decode()
    return {} if found == spelled(value) else {name: found}


def written_text(value: Any, text: str | None) -> bytes:
    """*value* as JSON: *text*, as long as that is what it says."""
    if text is not None:
        content = text.encode()
        try:
            told = parse(content).value
        except FileRefused:
            told = None
        if told == value and spelled(told) == spelled(value):
            return content
        if isinstance(told, dict) and isinstance(value, dict) and _same_keys(told, value):
            return content
    return spelled(value).encode()


def _same_keys(told: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether both say the same, in whatever order."""
    return spelled(_sorted(told)) == spelled(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def session_json(document: Mapping[str, Any]) -> bytes:
    """The text of the session itself."""
    session = document["session"]
    plain = {**session, "state": encoded(session["state"])} if "state" in session else session
    return written_text(plain, document.get("session_text"))


def _events(answers: Answers) -> tuple[list[dict[str, Any]], list[str]]:
    """The elements by time, then in the order of their scores; what of them is not whole stands at the end."""
    warnings: dict[str, None] = {}
    elements = [_element(answers, member, score, warnings) for member, score in answers.times]
    elements.sort(key=_time_of)
    indexed = {member for member, _ in answers.times}
    loose = [name for name in answers.data if name not in indexed]
    if loose:
        warnings["events_without_index"] = None
    elements += [_with_body({"score": None}, answers.data[name], name, warnings) for name in loose]
    _mark_repeated(elements)
    return elements, [*warnings]


def _element(answers: Answers, member: bytes, score: float, warnings: dict[str, None]) -> dict[str, Any]:
    if answers.layout != V2:
        return _with_body({"score": score}, member, None, warnings)
    if member not in answers.data:
        warnings["index_without_event"] = None
        return {"score": score, "id": member.decode()}
    return _with_body({"score": score}, answers.data[member], member, warnings)


def _with_body(element: dict[str, Any], text: bytes, name: bytes | None, warnings: dict[str, None]) -> dict[str, Any]:
    """*element* with the event of *text*, as text where it is none, and its name where the event says another."""
    try:
        event = _object(text)
    except FileRefused as refused:
        warnings[f"event_{refused.reason}"] = None
        event = None
    if event is None:
        element["text"] = text.decode()
    else:
        element |= {"event": event, **_text_of("text", text, event)}
    if name is not None and (event is None or event.get("id") != name.decode()):
        element["id"] = name.decode()
    return element


def _time_of(element: Mapping[str, Any]) -> int:
    told = nanoseconds((element.get("event") or {}).get("timestamp"))
    if told is not None:
        return told
    score = element["score"]
    return int(score if abs(score) > 1e14 else score * 1e9)  # older writers counted seconds


def _mark_repeated(elements: Sequence[dict[str, Any]]) -> None:
    known: set[Any] = set()
    for element in elements:
        id = (element.get("event") or {}).get("id")
        if isinstance(id, str) and id in known:
            element["again"] = True
        if isinstance(id, str):
            known.add(id)


# tracks


def _track(layout: str, told: Sequence[Any]) -> list[dict[str, Any]]:
    times = [(member, float(score)) for member, score in pairs(told[0])]
    if layout != V2:
        return [{"body": _track_entry(score, member, None)} for member, score in times]
    data, last = dict(pairs(told[1])), 0
    entries: list[dict[str, Any]] = []
    for member, score in times:
        if member in data:
            # only a number that is not the next one is told
            is_next, last = member == str(last + 1).encode(), int(member) if member.isdigit() else last
            entries.append({"body": _track_entry(score, data[member], None if is_next else member)})
    return entries


def _track_entry(score: float, text: bytes, name: bytes | None) -> dict[str, Any]:
    try:
        value = parse(text).value
    except FileRefused:
        value = text.decode()
    named = {} if name is None else {"id": name.decode()}
    return {"score": score, **named, "value": value, **_text_of("text", text, value)}
