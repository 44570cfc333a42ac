"""Requests that nobody thought of, made from the document of the interface: every answer is one that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from session_api.app import create_app
from tests.session_api.clients import database
from tests.session_api.serving import served
from unified_storage import open_storage

CASES = 5_000
"""Of all operations together."""
DOCUMENT = create_app(database(open_storage("memory://"))).openapi()
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
load_all_checks()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("service") / "sessions.db"
    with served(create_app(database(open_storage(f"sqlite:///{place}")))) as url:
        yield url


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_every_answer_is_one_that_is_documented(service: str, method: str, path: str, scaled: Callable[..., int]):
    """No 500, no status and no body that the document does not name, for requests that fit it and such that do not."""
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    requests = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )

    @settings(
        max_examples=scaled(CASES // len(OPERATIONS) + 1, minimum=10),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def answered(case: Any) -> None:
        response = case.call(base_url=service)
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=CHECKS)

    answered()


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "limit=0", f"page={2**63}", f"limit={2**64}", f"page={2**62}&limit={2**62}", "page=1e400"],
)
def test_numbers_that_name_no_page_are_refused_in_clear_words(service: str, query: str):
    answer = httpx.get(f"{service}/sessions?{query}")
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"text"', b"nul", b"{'a': 1}", b'{"session_ids": 1}'])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/sessions"), ("PATCH", "/sessions/s"), ("DELETE", "/sessions")],
    ids=["POST", "PATCH", "DELETE"],
)
def test_bodies_that_are_none_are_refused_in_clear_words(service: str, method: str, path: str, body: bytes):
    sent = {"content-type": "application/json"}
    answer = httpx.request(method, f"{service}{path}", content=body, headers=sent)
    known = method != "DELETE" and body.startswith(b'{"session_ids"')  # fields that it does not know are left out
    assert answer.status_code in ((201, 404) if known else (400, 422))
    assert known or answer.json()["detail"]
