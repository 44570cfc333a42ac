"""Documents and records: a session's document taken apart into record and list, and put together again.

The stored document is what was saved, with an empty list in the place of its messages; those stand in the log
``history/<record id>``. Its two times are not touched: views render the record's times into what they hand out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from session_adapter.entries import element_entry, history_of, shown_elements
from session_adapter.formats import FORMATS, Format, by_name, detect
from session_adapter.formats.places import ABSENT, Document, Path, value_at, with_value
from session_adapter.identity import SESSION, SessionId, SessionKey, record_id, visible_id
from session_adapter.metadata import derived_metadata, own_fields
from session_adapter.naming import named_record
from session_adapter.timestamps import Zone, render
from session_adapter.trace import Trace
from unified_storage.errors import StorageValidationError
from unified_storage.texts import encode_each, is_plain, plain_texts
from unified_storage.values import MAX_DEPTH, copied, decode, encode, native_texts

__all__ = [
    "Snapshot",
    "Split",
    "content_hash",
    "exported",
    "format_of",
    "imported",
    "ordered_texts",
    "record_of",
    "rendered",
    "visible_id",
    "with_own_times",
]

TIMES = ("created_at", "updated_at")
_LIST_PATHS: tuple[Path, ...] = tuple({format.history_path: None for format in FORMATS if format.history_path})
_PARTS = ("app_name", "user_id", "session_id")


# taking apart


@dataclass(frozen=True)
class Split:
    """A document taken apart.

    Attributes:
        document: with an empty list where its messages stood.
        texts: the exact text of each message; None where the document has no list of its format.
    """

    format: Format
    document: dict[str, Any]
    texts: list[str] | None


@dataclass(frozen=True)
class Snapshot:
    """A copy of a caller's document, with everything that may be a message list taken out as exact texts."""

    document: dict[str, Any]
    lists: Mapping[Path, list[str]]

    @classmethod
    def of(cls, document: Document) -> Snapshot:
        """A copy of *document*, which shares nothing with it.

        Raises:
            StorageValidationError: no object, or something in it cannot be kept; ``error.path`` names the place.
        """
        if not isinstance(document, Mapping):
            message = f"a session's document is a dict, not {type(document).__name__}"
            raise StorageValidationError(message, details={"path": "data"})
        rest, lists = dict(document), {}
        for path in _LIST_PATHS:
            elements = value_at(rest, path)
            if isinstance(elements, list):
                lists[path] = exact_texts(elements, path)
                rest = with_value(rest, path, [])
        return cls(copied(rest), lists)

    def split(self, document: Document | None = None, format: Format | None = None) -> Split:
        """The document with the list of its format taken out, and all other lists back in their places.

        Args:
            document: what to take for the document; this one's unless given.
            format: the one it has, where that is known.
        """
        rest = dict(self.document if document is None else document)
        found = detect(rest) if format is None else format
        for path, texts in self.lists.items():
            if path != found.history_path:
                rest = with_value(rest, path, [decode(text) for text in texts])
        return Split(found, rest, self.lists.get(found.history_path) if found.history_path else None)


def exact_texts(elements: Sequence[Any], path: Path, *, are_plain: bool = False) -> list[str]:
    """The exact text of each element of the list at *path*; a refusal names its place."""
    place = ".".join(("data", *path))
    texts = plain_texts(elements) if are_plain else encode_each(elements, lambda at: f"{place}[{at}]")
    room = MAX_DEPTH - len(path) - 1
    for at, text in enumerate(texts):
        if text.count("{") + text.count("[") > room:  # else it cannot be that deep
            _check_depth(elements[at], path, f"{place}[{at}]")
    return texts


def _check_depth(element: Any, path: Path, place: str) -> None:
    """Raise ``StorageValidationError`` where *element* is too deep at its place in the document."""
    inside: Any = [element]
    for key in reversed(path):
        inside = {key: inside}
    try:
        encode(inside)
    except StorageValidationError as error:
        message = f"{place} goes deeper than {MAX_DEPTH} levels of the document"
        raise StorageValidationError(message, details={"path": place}) from error


def record_of(session: SessionId, split: Split, own: Mapping[str, Any]) -> dict[str, Any]:
    """The record that holds *split*, as ``save`` takes it.

    Args:
        own: our own fields, without ``format`` and ``added``.
    """
    data, added = _with_parts(split.document, session)
    facts = {"format": split.format.name, **own} | ({"added": added} if added else {})
    metadata = derived_metadata(split.document, session, split.format, facts)
    stored = record_id(session)
    return {"id": stored, "type": SESSION, "session_id": stored, "data": data, "metadata": metadata}


def _with_parts(document: dict[str, Any], session: SessionId) -> tuple[dict[str, Any], list[str]]:
    """*document* with the parts of a scoped session's key where it has no such keys, and which those are."""
    if not isinstance(session, SessionKey):
        return document, []
    added = [name for name in _PARTS if name not in document]
    return document | {name: getattr(session, name) for name in added}, added


# putting together


def stored_document(record: Mapping[str, Any]) -> dict[str, Any]:
    """The document in *record* without its messages and without what was added to it."""
    added = own_fields(record).get("added", ())
    return {key: value for key, value in record["data"].items() if key not in added}


def format_of(record: Mapping[str, Any]) -> Format:
    """The format that was found when *record* was saved, else the one that its document has."""
    name = own_fields(record).get("format")
    return detect(record["data"]) if name is None else by_name(name)


def trace_of(record: Mapping[str, Any]) -> Trace | None:
    """What *record* remembers of its list; None where none was split off from its document."""
    trace = Trace.kept(own_fields(record).get("history"))
    return None if trace is None or format_of(record).history(record["data"]) is None else trace


def exported(record: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of *record* put together again, its own times as they were saved.

    Args:
        entries: of the log ``history/<record id>``, oldest first; not looked at where no list was split off.
    """
    document = stored_document(record)
    if trace_of(record) is None:
        return document
    format = format_of(record)
    return format.with_history(document, [item for entry in entries for item in shown_elements(entry["body"], format)])


def rendered(document: Document, record: Mapping[str, Any]) -> dict[str, Any]:
    """*document* with the record's times in its metadata, which is made where there is none."""
    metadata = document.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        return dict(document)
    return {**document, "metadata": {**(metadata or {}), **rendered_times(record)}}


def rendered_times(record: Mapping[str, Any]) -> dict[str, str]:
    """The record's times as views show them in the metadata."""
    created, updated = record["created_at"], record["updated_at"]
    shown = render(created)
    return {"created_at": shown, "updated_at": shown if updated is created else render(updated)}


def with_own_times(document: Document, record: Mapping[str, Any]) -> dict[str, Any]:
    """*document* with its own times again in the place of those that *record* renders: the inverse of ``rendered``."""
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(document)
    stored = value_at(record, ("data", "metadata"))
    kept = dict(metadata)
    for name in TIMES:
        if type(kept.get(name)) is str and kept[name] == render(record[name]):
            own = value_at(stored, (name,))
            if own is ABSENT:
                del kept[name]
            else:
                kept[name] = own
    if kept or not metadata or stored not in (ABSENT, None):
        return {**document, "metadata": kept}
    without = {key: value for key, value in document.items() if key != "metadata"}
    return without if stored is ABSENT else {**document, "metadata": None}


# imports


def imported(
    document: Document,
    *,
    key: SessionId,
    created_at: datetime,
    updated_at: datetime,
    source_timezone: Zone = None,
    time_unknown: Iterable[str] = (),
    now: datetime,
    is_known_plain: bool = False,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The record and the log for ``restore`` that hold *document* as a save would have stored it.

    Args:
        key: what names the session.
        created_at, updated_at: the record's times, aware.
        source_timezone: the zone of its messages' times without an offset.
        time_unknown: which of the two times the document does not tell; kept among our own fields.
        now: the time of messages that have none of their own, aware.
        is_known_plain: *document* is as ``is_plain`` wants it, so that nothing in it has to be looked at once more.
    Returns:
        The record with all fields, and its history log; None for a document without a message list.
    """
    split = _split(document, is_known_plain)
    unknown = list(time_unknown)
    own: dict[str, Any] = {"time_unknown": unknown} if unknown else {}
    if split.texts is not None:
        own["history"] = Trace.of_new(split.texts).facts()
    times = {"created_at": created_at, "updated_at": updated_at, "expires_at": None}
    record = record_of(key, split, own) | {"thread_id": None, "version": 1} | times
    elements = split.format.history(document)
    if elements is None:
        return record, None
    log = _imported_log(record["id"], elements, split.format, source_timezone, now)
    return named_record(record, (entry["body"] for entry in log["entries"])), log


def _split(document: Document, is_plain: bool) -> Split:
    """*document* taken apart, sharing what is in it: it is to be restored as it is, and was checked to be storable."""
    format = detect(document)
    elements = format.history(document)
    texts = None if elements is None else exact_texts(elements, format.history_path or (), are_plain=is_plain)
    return Split(format, format.without_history(document), texts)


def _imported_log(stored: str, elements: Sequence[Any], format: Format, zone: Zone, now: datetime) -> dict[str, Any]:
    blank = {"key": None, "created_at": now}
    entries = [{**blank, **element_entry(element, format, zone), "seq": seq} for seq, element in enumerate(elements, 1)]
    return {"log_id": history_of(stored), "last_seq": len(entries), "entries": entries}


# hashes


def content_hash(document: Document, *, is_known_plain: bool = False) -> str:
    """SHA-256 over all of *document*, as hex: types and values exactly, the order of keys not at all.

    Args:
        is_known_plain: *document* is as ``is_plain`` wants it.
    Raises:
        StorageValidationError: something in it cannot be kept; ``error.path`` names the place.
    """
    if is_known_plain or is_plain(document):
        return hashlib.sha256(b"".join(_plain_pieces(document))).hexdigest()
    hashed = hashlib.sha256()
    for piece in _pieces(document, "data"):
        hashed.update(piece.encode())
    return hashed.hexdigest()


def ordered_texts(values: Sequence[Any]) -> list[bytes]:
    """The exact text of each of *values*, in which the order of keys is always the same.

    Raises:
        StorageValidationError, StorageCapacityError: one of them cannot be kept.
    """
    if native_texts([*values]) is None:
        return [encode(order_free(value)).encode() for value in values]
    return [msgspec.json.encode(value, order="sorted") for value in values]


def order_free(value: Any) -> Any:
    """*value* with the keys of its mappings sorted, so that equal values have equal texts."""
    if type(value) is dict:
        return {key: order_free(item) for key, item in sorted(value.items(), key=_name_of)}
    return type(value)(map(order_free, value)) if type(value) in (list, tuple) else value


def _name_of(item: tuple[Any, Any]) -> str:
    return str(item[0])  # a key that is no text is refused when it is encoded


def _plain_pieces(value: Any) -> Iterator[bytes]:
    """What :func:`_pieces` gives, of a value that is plain JSON."""
    if type(value) is dict:
        yield b"{"
        for key in sorted(value):
            yield b"{%b:null}" % msgspec.json.encode(key)
            yield from _plain_pieces(value[key])
        yield b"}"
    elif type(value) is list:
        yield b"["
        yield from (b"=" + msgspec.json.encode(item, order="sorted") for item in value)
        yield b"]"
    else:
        yield b"=" + msgspec.json.encode(value)


def _pieces(value: Any, path: str) -> Iterator[str]:
    # Piece by piece, since a document with its history may be larger than what one record can hold. The marks keep
    # a mapping apart from the text of a value that looks like one.
    if type(value) is dict:
        yield "{"
        for key, item in sorted(value.items(), key=_name_of):
            yield encode({key: None}, path=path)
            yield from _pieces(item, f"{path}.{key}")
        yield "}"
    elif type(value) is list:
        yield "["
        yield from (f"={encode(order_free(item), path=f'{path}[{at}]')}" for at, item in enumerate(value))
        yield "]"
    else:
        yield f"={encode(order_free(value), path=path)}"
