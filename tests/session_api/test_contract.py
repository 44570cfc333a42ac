"""The recorded answers of AgentOS, replayed against the service over real connections."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract import contract
from tests.contract.serve import PROFILES, OnAgnos, OnStorage, contract_app, database_ids
from tests.places import engines, place_on
from tests.session_api.agno_places import agno_database
from tests.session_api.serving import served

RECORDINGS = Path(contract.__file__).parent
GOLDEN = RECORDINGS / "golden.json"
SAME, BETTER = 343, 18
"""Recorded steps that are answered alike, and those flagged as faults of AgentOS that are answered better."""
SAME_BY_DEFAULT = 276
"""Those alike in the default profile; every flagged one is in it."""
OF_JSONB = {"sqlite": 0, "postgresql": 4}
"""Steps flagged as the backend's own: a NUL character, twice, and the order of keys in objects shown as text, twice."""


class Replaying(contract.Recorder):
    """The recorder on one connection a service: ours stays open after a failure."""

    clients: dict[str, httpx.Client]

    def send(self, profile: str, method: str, path: str, **request: Any) -> httpx.Response:
        client = self.clients.setdefault(profile, httpx.Client(timeout=self.timeout, trust_env=False))
        return client.request(method, self.urls[profile] + path, **request)


def replayed(urls: dict[str, str]) -> dict[str, Any]:
    """How the answers of the services at *urls*, one a profile, differ from the recorded ones."""
    golden = json.loads(GOLDEN.read_text("utf-8"))  # before anything is asked: without it there is nothing to compare
    profiles, everything = contract.load_scenarios([str(RECORDINGS / "scenarios.json")])
    scenarios = [scenario for scenario in everything if scenario.get("profile", "default") in urls]
    recorder = Replaying(urls["default"], profiles, urls, 60, "/__seed__")
    recorder.clients = {}
    try:
        found = {scenario["id"]: recorder.run(scenario) for scenario in scenarios}
    finally:
        for client in recorder.clients.values():
            client.close()
    golden["scenarios"] = {name: golden["scenarios"][name] for name in found}
    return contract.compare(golden, {"scenarios": found}, loose=False, only=[])


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql"))
async def test_every_recorded_answer_is_given(engine: str, tmp_path: Path):
    """S4.1, T4.1: no counted difference in any profile; where AgentOS is wrong, the answer is a better one."""
    async with AsyncExitStack() as stack:
        with ExitStack() as services:
            urls = {}
            for profile in PROFILES:
                places = {}
                for name in database_ids(profile):
                    folder = tmp_path / profile / name
                    folder.mkdir(parents=True)
                    place = await stack.enter_async_context(place_on(engine, folder))
                    places[name] = OnStorage(place.open())
                urls[profile] = services.enter_context(served(contract_app(profile, places)))
            found = replayed(urls)
    assert found["different"] == []
    assert found["skipped"] == []
    assert found["backend"] == []
    assert (found["same"], len(found["bug"])) == (SAME, BETTER)
    assert [_status(one) for one in found["bug"] if (_status(one) or 0) >= 500] == []


@pytest.mark.parametrize("engine", engines("sqlite", "postgresql"))
async def test_every_recorded_answer_is_given_on_agentos_own_tables(engine: str, tmp_path: Path):
    """S4.26: in the default profile."""
    async with agno_database(engine, tmp_path) as url:
        with served(contract_app("default", {"primary": OnAgnos(url)})) as service:
            found = replayed({"default": service})
    assert found["different"] == []
    assert found["skipped"] == []
    assert (len(found["bug"]), len(found["backend"])) == (BETTER, OF_JSONB[engine])
    assert found["same"] == SAME_BY_DEFAULT - OF_JSONB[engine]
    assert [_of_jsonb(one) for one in found["backend"]] == [True] * OF_JSONB[engine], found["backend"]
    assert [_status(one) for one in found["bug"] if (_status(one) or 0) >= 500] == []


def _of_jsonb(difference: dict[str, Any]) -> bool:
    """Whether it is one of a NUL character, or of a text that shows an object."""
    return "nul-1" in str(difference) or all(
        where.endswith(("run_input", "preview")) for where, *_ in difference["diffs"]
    )


def _status(difference: dict[str, Any]) -> int | None:
    return next((ours for where, _, ours in difference["diffs"] if where == "/status"), None)
