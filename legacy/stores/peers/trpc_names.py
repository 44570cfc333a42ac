"""The names of tRPC-Agent-Go's keys, as its two layouts join them."""

from __future__ import annotations

from legacy.stores.peers.kinds import AppKey, Key
from legacy.stores.peers.redis_keys import Command
from session_adapter.identity import SessionKey, UserKey

V1, V2 = "v1", "v2"
INVALID_KEY, AMBIGUOUS_KEY = "invalid_key", "ambiguous_key"


class Names:
    """Every key of one store.

    Args:
        prefix: with its colon, or empty.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self.sessions = prefix + b"sess:{"
        self.metas = prefix + b"hashidx:meta:"
        self.events_v1 = prefix + b"event:{"
        self.events_v2 = prefix + b"hashidx:evtdata:"
        self.app_states = prefix + b"appstate:{"
        self.user_states_v1 = prefix + b"userstate:{"
        self.user_states_v2 = prefix + b"hashidx:userstate:"

    def session_hash(self, key: SessionKey) -> bytes:
        return self._v1("sess", key)

    def meta(self, key: SessionKey) -> bytes:
        return self._v2("meta", key)

    def session_index(self, key: SessionKey) -> bytes:
        return self._name(f"hashidx:sessidx:{key.app_name}:{{{key.user_id}}}")

    def events(self, key: Key, layout: str) -> bytes:
        """The sorted set (v1) or the hash (v2) of a session's events."""
        assert isinstance(key, SessionKey)
        return self._v1("event", key, key.session_id) if layout == V1 else self._v2("evtdata", key)

    def event_times(self, key: SessionKey) -> bytes:
        return self._v2("evtidx:time", key)

    def summaries(self, key: SessionKey, layout: str) -> bytes:
        return self._v1("sesssum", key) if layout == V1 else self._v2("sesssum", key)

    def track_names(self, key: SessionKey, layout: str) -> bytes:
        return self._v1("trackidx", key, key.session_id) if layout == V1 else self._v2("trkidx:names", key)

    def track(self, key: SessionKey, layout: str, track: str) -> bytes:
        """The sorted set (v1) or the hash (v2) of a track."""
        return self._v1("track", key, key.session_id, track) if layout == V1 else self._v2("trkdata", key, track)

    def track_times(self, key: SessionKey, track: str) -> bytes:
        return self._v2("trkidx:time", key, track)

    def states(self, key: Key) -> dict[str, bytes]:
        """Where the state of an app or a user stands, by layout; what comes later counts."""
        if isinstance(key, AppKey):
            return {V2: self._name(f"appstate:{{{key.app_name}}}")}
        assert isinstance(key, UserKey)
        return {
            V1: self._name(f"userstate:{{{key.app_name}}}:{key.user_id}"),
            V2: self._name(f"hashidx:userstate:{key.app_name}:{{{key.user_id}}}"),
        }

    def questions(self, key: Key, layout: str) -> list[Command]:
        """What is asked of a session, in the order of ``Answers``."""
        assert isinstance(key, SessionKey)
        events, field = self.events(key, layout), key.session_id
        if layout == V1:
            home = self.session_hash(key)
            return [
                ("HGET", home, field),
                ("PEXPIRETIME", home),
                ("HGET", self.summaries(key, V1), field),
                ("SMEMBERS", self.track_names(key, V1)),
                ("ZRANGE", events, 0, -1, "WITHSCORES"),
            ]
        return [
            ("GET", self.meta(key)),
            ("PEXPIRETIME", self.meta(key)),
            ("GET", self.summaries(key, V2)),
            ("SMEMBERS", self.track_names(key, V2)),
            ("ZRANGE", self.event_times(key), 0, -1, "WITHSCORES"),
            ("HGETALL", events),
            ("HGET", self.session_index(key), field),
        ]

    def track_questions(self, key: Key, layout: str, track: str) -> list[Command]:
        assert isinstance(key, SessionKey)
        entries = self.track(key, layout, track)
        if layout == V1:
            return [("ZRANGE", entries, 0, -1, "WITHSCORES")]
        return [("ZRANGE", self.track_times(key, track), 0, -1, "WITHSCORES"), ("HGETALL", entries)]

    def _v1(self, word: str, key: SessionKey, *further: str) -> bytes:
        return self._name(":".join((f"{word}:{{{key.app_name}}}", key.user_id, *further)))

    def _v2(self, word: str, key: SessionKey, *further: str) -> bytes:
        parts = (f"hashidx:{word}:{key.app_name}", f"{{{key.user_id}}}", key.session_id, *further)
        return self._name(":".join(parts))

    def _name(self, text: str) -> bytes:
        return self._prefix + text.encode()


def user_of_v1(rest: bytes) -> UserKey | str:
    """Whose ``{app}:user`` is, its first bracket taken off; or why that is open."""
    return _split(rest, b"}:")


def user_of_v2(rest: bytes) -> UserKey | str:
    """Whose ``app:{user}`` is; or why that is open."""
    return _split(rest.removesuffix(b"}"), b":{") if rest.endswith(b"}") else INVALID_KEY


def _split(rest: bytes, between: bytes) -> UserKey | str:
    if rest.count(between) != 1:
        return AMBIGUOUS_KEY if between in rest else INVALID_KEY
    app, user = rest.split(between)
    try:
        return UserKey(app.decode(), user.decode()) if app and user else INVALID_KEY
    except UnicodeDecodeError:
        return INVALID_KEY
