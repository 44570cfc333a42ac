"""Who asks: security keys, signed tokens, and what a caller may do. Storage is never asked."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ADMIN = "agent_os:admin"
_ACTIONS = {"GET": "read", "HEAD": "read", "POST": "write", "PATCH": "write", "PUT": "write", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is.

    Attributes:
        user_id: told by who vouches for him; None where nobody does.
        pinned: sees and changes his own sessions alone.
    """

    user_id: str | None = None
    pinned: bool = False

    def scope(self, asked_for: str | None) -> str | None:
        """Whose sessions the request means: the caller's own where he is pinned, else those that it asks for."""
        return self.user_id if self.pinned else asked_for


ANYBODY = Caller()


@dataclass(frozen=True, slots=True)
class Asking:
    """What an authenticator sees of a request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Refused(Exception):
    """The request is not let in.

    Attributes:
        status: 401 where nobody vouches for the caller, 403 where he may not.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Authenticator(Protocol):
    """Says who a caller is, or raises :class:`Refused`."""

    async def __call__(self, asking: Asking) -> Caller: ...


@dataclass(frozen=True, slots=True)
class SecurityKey:
    """One key that every caller has to know."""

    key: str

    async def __call__(self, asking: Asking) -> Caller:
        given = asking.headers.get("authorization")
        if given is None:
            raise Refused(401, "Authorization header required")
        if not hmac.compare_digest(_without_bearer(given).encode(), self.key.encode()):
            raise Refused(401, "Invalid authentication token")
        return ANYBODY

    def __repr__(self) -> str:
        return "SecurityKey(***)"


@dataclass(frozen=True, slots=True)
class SignedTokens:
    """JSON web tokens with scopes.

    Attributes:
        keys: secrets, or public keys as PEM; one of them has to fit.
        algorithms: that are accepted.
        audience: that a token has to be for; None for whatever it says.
        isolated: callers are pinned to their own sessions, admins aside.
    """

    keys: Sequence[str]
    algorithms: Sequence[str] = ("RS256",)
    audience: str | None = None
    isolated: bool = False

    async def __call__(self, asking: Asking) -> Caller:
        given = asking.headers.get("authorization")
        if given is None:
            raise Refused(401, "Authorization header missing")
        claims = self._claims(_without_bearer(given))
        scopes = _scopes(claims)
        _check_scopes(asking, scopes)
        subject = claims.get("sub")
        user_id = subject if isinstance(subject, str) and subject else None
        if self.isolated and user_id is None:
            raise Refused(403, "Authenticated request is missing a user identity")
        return Caller(user_id, pinned=self.isolated and ADMIN not in scopes)

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        failure: jwt.InvalidTokenError | None = None
        for key in self.keys:
            try:
                return jwt.decode(token, key, [*self.algorithms], audience=self.audience, options=self._options())
            except jwt.ExpiredSignatureError as error:
                raise Refused(401, "Token has expired") from error
            except jwt.InvalidTokenError as error:
                failure = error
        raise Refused(401, f"Invalid token: {failure}") from failure

    def _options(self) -> Any:
        return {"verify_aud": self.audience is not None}

    def __repr__(self) -> str:
        return f"SignedTokens(***, algorithms={[*self.algorithms]}, isolated={self.isolated})"


def _without_bearer(header: str) -> str:
    """The token in *header*, with ``Bearer`` in any case before it or without."""
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return header.strip()


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    found = claims.get("scopes")
    if isinstance(found, str):
        return frozenset(found.split())
    return frozenset(scope for scope in found if isinstance(scope, str)) if isinstance(found, list) else frozenset()


def _check_scopes(asking: Asking, scopes: frozenset[str]) -> None:
    if asking.path != "/sessions" and not asking.path.startswith("/sessions/"):
        return
    action = _ACTIONS.get(asking.method, "read")
    if not scopes & {ADMIN, f"sessions:{action}"}:
        raise Refused(403, f"Insufficient permissions. Required scope(s): sessions:{action}")
