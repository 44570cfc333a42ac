"""The servers that pages write about, and the real ones that their blocks run on."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engines import drop_namespace, engine_url, fresh_namespace
from unified_storage.errors import redacted

URLS = {
    "postgresql": "postgresql://app@localhost/sessions",
    "mysql": "mysql://app@localhost/sessions",
    "redis": "redis://localhost:6379/0",
    "redis-cluster": "redis+cluster://localhost:7000,localhost:7001",
}
"""What pages call a server of each kind; a block that names one runs where there is one."""


def servers_named(text: str) -> set[str]:
    """The kinds of servers that *text* writes about."""
    return {kind for kind, url in URLS.items() if url in text}


class PageServer:
    """A place on a real server, and what pages call it."""

    def __init__(self, kind: str, real: str) -> None:
        self._told = URLS[kind]
        self._real = real
        self._in_text = re.compile(rf"(?P<quote>['\"]?){re.escape(self._told)}(?:\?(?P<query>[^\s'\"]*))?(?P=quote)")

    def in_python(self, text: str) -> str:
        """A block's text with the real URL."""
        return self._in_text.sub(lambda found: f"{found['quote']}{self._url(found)}{found['quote']}", text)

    def in_shell(self, command: str) -> str:
        """The same, quoted: the real URL has a query."""
        return self._in_text.sub(lambda found: shlex.quote(self._url(found)), command)

    def _url(self, found: re.Match[str]) -> str:
        return self._real if found["query"] is None else f"{self._real}&{found['query']}"

    def as_told(self, printed: str) -> str:
        """What was printed, with the URL as the page has it."""
        return printed.replace(redacted(self._real), self._told).replace(self._real, self._told)


@contextmanager
def page_server(kind: str) -> Iterator[PageServer]:
    """A place of its own on a real server, cleared away afterwards; without a server the test is skipped."""
    url, namespace = engine_url(kind), fresh_namespace("docs")
    try:
        yield PageServer(kind, f"{url}{'&' if '?' in url else '?'}namespace={namespace}")
    finally:
        asyncio.run(drop_namespace(url, namespace))
