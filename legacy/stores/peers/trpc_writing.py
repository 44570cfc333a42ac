"""The commands that write a session or a state of tRPC-Agent-Go, each whole in the place of what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from legacy.stores.peers.kinds import AppKey, PeerSession, PeerState
from legacy.stores.peers.redis_keys import Command, Word, in_parts, milliseconds
from legacy.stores.peers.trpc_documents import session_json, written_text
from legacy.stores.peers.trpc_names import V1, V2, Names
from session_adapter.formats.trpc_agent import as_bytes
from session_adapter.identity import SessionKey


def session_commands(session: PeerSession, names: Names, hashes: dict[bytes, bool]) -> list[Command]:
    """What puts *session* there.

    Args:
        hashes: the hashes of users (v1), and whether each is there already; those written to are from now on.
    """
    key, document = session.key, session.document
    assert isinstance(key, SessionKey)
    layout = document["layout"]
    writer = _V1(names, key, session.expires_at) if layout == V1 else _V2(names, key, session.expires_at)
    text = session_json(document)
    commands = writer.home(text, document.get("indexed"), hashes)
    summaries = document.get("summaries")
    if summaries is not None:
        commands += writer.summaries(written_text(summaries, document.get("summaries_text")), hashes)
    else:
        commands += writer.no_summaries()
    commands += writer.events(document["events"])
    return commands + writer.tracks(
        {
            name.removeprefix("track:"): [entry["body"] for entry in entries]
            for name, entries in session.further_logs.items()
            if name.startswith("track:")
        }
    )


class _Writer:
    def __init__(self, names: Names, key: SessionKey, expires_at: datetime | None) -> None:
        self._names = names
        self._key = key
        self._expires_at = expires_at

    def _whole(self, name: bytes, *verb: Word, words: Sequence[Word], step: int = 1) -> list[Command]:
        """The value of a key of the session's own, which expires with it."""
        if not words:
            return [("DEL", name)]
        return [("DEL", name), *in_parts(*verb, name, words=words, step=step), *self._expiring(name)]

    def _expiring(self, name: bytes) -> list[Command]:
        return [] if self._expires_at is None else [("PEXPIREAT", name, milliseconds(self._expires_at))]

    def _shared(self, name: bytes, hashes: dict[bytes, bool]) -> list[Command]:
        """The expiry of a hash of several sessions: the latest of theirs, none where one has none."""
        is_there, hashes[name] = hashes.get(name, False), True
        if self._expires_at is None:
            return [("PERSIST", name)]
        return [(*self._expiring(name)[0], *(("GT",) if is_there else ()))]


class _V1(_Writer):
    def home(self, text: bytes, _: str | None, hashes: dict[bytes, bool]) -> list[Command]:
        name = self._names.session_hash(self._key)
        return [("HSET", name, self._key.session_id.encode(), text), *self._shared(name, hashes)]

    def summaries(self, text: bytes, hashes: dict[bytes, bool]) -> list[Command]:
        name = self._names.summaries(self._key, V1)
        return [("HSET", name, self._key.session_id.encode(), text), *self._shared(name, hashes)]

    def no_summaries(self) -> list[Command]:
        return [("HDEL", self._names.summaries(self._key, V1), self._key.session_id.encode())]

    def events(self, elements: Sequence[Mapping[str, Any]]) -> list[Command]:
        words = [word for element in elements for word in (_score(element), _body(element))]
        return self._whole(self._names.events(self._key, V1), "ZADD", words=words, step=2)

    def tracks(self, tracks: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Command]:
        commands = self._whole(
            self._names.track_names(self._key, V1), "SADD", words=[track.encode() for track in tracks]
        )
        for track, entries in tracks.items():
            words = [word for entry in entries for word in (_score(entry), _track_text(entry))]
            commands += self._whole(self._names.track(self._key, V1, track), "ZADD", words=words, step=2)
        return commands


class _V2(_Writer):
    def home(self, text: bytes, indexed: str | None, hashes: dict[bytes, bool]) -> list[Command]:
        name = self._names.meta(self._key)
        commands: list[Command] = [("SET", name, text), *self._expiring(name)]
        if indexed is not None:
            place = self._names.session_index(self._key)
            commands.append(("HSET", place, self._key.session_id.encode(), indexed.encode()))
        return commands

    def summaries(self, text: bytes, _: dict[bytes, bool]) -> list[Command]:
        name = self._names.summaries(self._key, V2)
        return [("SET", name, text), *self._expiring(name)]

    def no_summaries(self) -> list[Command]:
        return [("DEL", self._names.summaries(self._key, V2))]

    def events(self, elements: Sequence[Mapping[str, Any]]) -> list[Command]:
        data = [word for element in elements if _has_body(element) for word in (_name(element), _body(element))]
        times = [
            word for element in elements if element["score"] is not None for word in (_score(element), _name(element))
        ]
        return [
            *self._whole(self._names.events(self._key, V2), "HSET", words=data, step=2),
            *self._whole(self._names.event_times(self._key), "ZADD", words=times, step=2),
        ]

    def tracks(self, tracks: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Command]:
        names = [track.encode() for track in tracks]
        commands = self._whole(self._names.track_names(self._key, V2), "SADD", words=names)
        for track, entries in tracks.items():
            numbered = _numbered(entries)
            last = max(int(id) for id, _ in numbered)
            data: list[Word] = [word for id, entry in numbered for word in (id, _track_text(entry))]
            times = [word for id, entry in numbered for word in (_score(entry), id)]
            data += [b"_seq", str(last).encode()]
            commands += self._whole(self._names.track(self._key, V2, track), "HSET", words=data, step=2)
            commands += self._whole(self._names.track_times(self._key, track), "ZADD", words=times, step=2)
        return commands


def _score(element: Mapping[str, Any]) -> bytes:
    score = element["score"]
    return repr(float(0 if score is None else score)).encode()


def _has_body(element: Mapping[str, Any]) -> bool:
    return "event" in element or "text" in element


def _body(element: Mapping[str, Any]) -> bytes:
    if "event" not in element:
        return str(element.get("text", "")).encode()
    return written_text(element["event"], element.get("text"))


def _name(element: Mapping[str, Any]) -> bytes:
    return str(element.get("id") or element["event"]["id"]).encode()


def _track_text(entry: Mapping[str, Any]) -> bytes:
    return written_text(entry["value"], entry.get("text"))


def _numbered(entries: Sequence[Mapping[str, Any]]) -> list[tuple[bytes, Mapping[str, Any]]]:
    """The entries with their numbers; new ones go on behind the last."""
    last = 0
    numbered: list[tuple[bytes, Mapping[str, Any]]] = []
    for entry in entries:
        last = int(entry["id"]) if str(entry.get("id", "")).isdecimal() else last + 1
        numbered.append((str(last).encode(), entry))
    return numbered


# states


def app_commands(state: PeerState, names: Names) -> list[Command]:
    assert isinstance(state.key, AppKey)
    return _state(names.states(state.key)[V2], state.state, state.expires_at)


def user_commands(state: PeerState, names: Names, layout: str) -> list[Command]:
    """Into the layouts that it came from, with what each of them said where nothing has changed; else into *layout*."""
    keys = names.states(state.key)
    told: Mapping[str, Mapping[str, Any]] = (state.raw or {}).get("layouts") or {layout: state.state}
    merged = {name: value for values in told.values() for name, value in values.items()}
    is_changed = merged != state.state
    return [
        command
        for place, values in told.items()
        for command in _state(keys[place], state.state if is_changed else values, state.expires_at)
    ]


def _state(name: bytes, values: Mapping[str, Any], expires_at: datetime | None) -> list[Command]:
    words = [word for key, value in values.items() for word in (key.encode(), as_bytes(value) or b"null")]
    commands: list[Command] = [("DEL", name), *in_parts("HSET", name, words=words, step=2)]
    return commands if expires_at is None else [*commands, ("PEXPIREAT", name, milliseconds(expires_at))]
