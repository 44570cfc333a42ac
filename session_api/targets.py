"""What there is to ask a service of sessions: what others asked it, or everything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import count, islice, product
from typing import Any
from urllib.parse import quote

from session_api.client import Service
from session_api.tables import SessionType

_PAGE = 100
_LOGGED = re.compile(r'"(?P<method>[A-Z]+) (?P<target>/[!-~]*) HTTP/[\d.]+"')
_SESSIONS = re.compile(r"/sessions(?:[/?]|$)")


def logged(lines: Iterable[str]) -> Iterator[str]:
    """The targets of GET requests about sessions in *lines* of an access log; whatever else they say is passed over.

    A line has ``"GET /sessions?limit=2 HTTP/1.1"`` in it, as nginx, Apache and uvicorn write it, or is one of our own
    service: a JSON object with ``method`` and ``path``, which has no query and no escapes.
    """
    for line in lines:
        method, target = _in_ours(line) if line.startswith("{") else _in_usual(line)
        if method == "GET" and _SESSIONS.match(target):
            yield target


def _in_usual(line: str) -> tuple[str, str]:
    found = _LOGGED.search(line)
    return (found["method"], found["target"]) if found else ("", "")


def _in_ours(line: str) -> tuple[str, str]:
    try:
        facts = json.loads(line)
    except ValueError:
        return "", ""
    return str(facts.get("method")), quote(str(facts.get("path")))


def everything(service: Service, sessions: int) -> Iterator[str]:
    """Targets of GET that together look at all that *service* shows: its lists, and each of *sessions* as a whole."""
    yield "/sessions/there-is-none"
    for kind, order in product(("", *(f"&type={kind}" for kind in SessionType)), ("asc", "desc")):
        yield f"/sessions?limit=20&page=1&sort_by=session_id&sort_order={order}{kind}"
    for item in islice(_listed(service), sessions):
        path = f"/sessions/{quote(item['session_id'], safe='')}"
        yield from (path, f"{path}/runs", f"{path}/run-previews")
        if isinstance(item.get("session_type"), str):
            yield f"{path}?type={quote(item['session_type'], safe='')}"
        for run in _objects(service.get(f"{path}/runs").body, "run_id"):
            yield f"{path}/runs/{quote(run['run_id'], safe='')}"


def _listed(service: Service) -> Iterator[dict[str, Any]]:
    for page in count(1):
        answer = service.get(f"/sessions?limit={_PAGE}&page={page}&sort_by=session_id&sort_order=asc")
        found = _objects(answer.body.get("data") if isinstance(answer.body, dict) else None, "session_id")
        if not found:
            return
        yield from found


def _objects(value: object, key: str) -> list[dict[str, Any]]:
    """The objects in *value* that have a text under *key*: another service said it, so it may be anything."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get(key), str)]
