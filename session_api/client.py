"""Another service, asked as a client of it would."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from unified_storage.errors import StorageConfigurationError, StorageConnectionError, redacted

PATIENCE = 70.0
"""Seconds: more than a service lets a request take."""
_KINDS = {"http": HTTPConnection, "https": HTTPSConnection}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said.

    Attributes:
        status: 0 where it said nothing.
        media_type: without parameters, in lower case.
        body: a JSON value, other text as it is, or why there is no answer.
        seconds: until all of it was there.
    """

    status: int
    media_type: str
    body: Any
    seconds: float


class Service:
    """A service under *url*, asked by one connection, one request after the other.

    Args:
        url: ``http://`` or ``https://``, with the path that it is mounted under.
        key: sent as the bearer.
    Raises:
        StorageConfigurationError: *url* is no such URL.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.name = redacted(url)
        self._connection, self._path = self._parsed(url)
        self._headers = {"accept": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def _parsed(self, url: str) -> tuple[HTTPConnection, str]:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in _KINDS:
            raise StorageConfigurationError(f"{self.name!r} is no URL of a service; write http://host:8080")
        return _KINDS[parts.scheme](host, port, timeout=PATIENCE), parts.path.rstrip("/")

    def close(self) -> None:
        self._connection.close()

    def get(self, target: str) -> Answer:
        """The answer to GET *target*, a path with its query; one of status 0 where there is none."""
        began = time.perf_counter()
        try:
            status, media_type, content = self._asked(target)
        except (OSError, HTTPException) as error:
            self._connection.close()
            return Answer(0, "", type(error).__name__, time.perf_counter() - began)
        return Answer(status, media_type, _read(content), time.perf_counter() - began)

    def require(self) -> None:
        """See that it answers at all.

        Raises:
            StorageConnectionError: it does not.
        """
        if self.get("/health").status == 0:
            raise StorageConnectionError(f"no service answers under {self.name}")

    def _asked(self, target: str) -> tuple[int, str, bytes]:
        kept = self._connection.sock is not None
        try:
            return self._once(target)
        except ConnectionError:
            if not kept:
                raise
            self._connection.close()  # the other end has closed what we kept: that says nothing of this request
            return self._once(target)

    def _once(self, target: str) -> tuple[int, str, bytes]:
        self._connection.request("GET", self._path + target, headers=self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, answer.headers.get_content_type() if content else "", content


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "backslashreplace")
