"""Whose a key of the hand-written Redis layout is: its parts are joined by ``:``, which may stand in them too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from session_adapter.formats.places import first_given, text_of
from session_adapter.identity import UserKey

_APP = (("appName",), ("app_name",), ("app",))
_USER = (("userId",), ("userID",), ("user_id",), ("user",))


class Owner(NamedTuple):
    """Whose something is; ``user`` is None where that stays open."""

    user: UserKey | None
    warnings: tuple[str, ...] = ()


def owner_of(joined: str, document: Mapping[str, Any]) -> Owner:
    """The app and user whose names, joined, are *joined*.

    Args:
        document: the JSON of one of their sessions, which may name them.
    """
    app, user = text_of(first_given(document, _APP)), text_of(first_given(document, _USER))
    if joined.count(":") == 1:
        parts = UserKey(*joined.split(":"))
        differ = app not in (None, parts.app_name) or user not in (None, parts.user_id)
        return Owner(parts, ("owner_mismatch",) if differ else ())
    if app is not None and joined.startswith(f"{app}:"):
        rest = joined[len(app) + 1 :]
        return Owner(UserKey(app, rest) if user in (None, rest) else None)
    if app is None and user is not None and joined.endswith(f":{user}"):
        return Owner(UserKey(joined[: -len(user) - 1], user))
    return Owner(None)
