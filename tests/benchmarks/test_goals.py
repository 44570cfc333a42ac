"""Goals are computed from the numbers of a run, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.goals import IMPORT, ONE, OWN, STATE, Finding, findings

Medians = dict[str, float]


def of_engine(engine: str, metric: str, medians: Medians, unit: str = "us", **facts: Any) -> dict[str, Any]:
    return {engine: {metric: {name: {"unit": unit, "median": median, **facts} for name, median in medians.items()}}}


def only(goal: str, cells: dict[str, Any]) -> Finding:
    found = [finding for finding in findings(cells) if finding.goal == goal]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(("ours", "held"), [(150.0, True), (151.0, False)])
def test_one_task_may_take_half_as_long_again_as_the_driver(ours: float, held: bool) -> None:
    finding = only("P1", of_engine("sqlite", "load", {"raw": 100.0, "ours": ours}))
    assert finding.held is held
    assert finding.measured == f"{ours / 100:.3g} x raw"


@pytest.mark.parametrize(("sessions", "held"), [(200.0, True), (201.0, False)])
def test_sessions_may_take_twice_as_long(sessions: float, held: bool) -> None:
    cells = of_engine("sqlite", "append at 1 000", {"raw": 100.0, "ours": 100.0, "ours (sessions)": sessions})
    assert only("P2", cells).held is held


@pytest.mark.parametrize(("scoped", "held"), [(200.0, True), (201.0, False)])
def test_scoped_sessions_may_take_twice_as_long_where_they_offer_it(scoped: float, held: bool) -> None:
    cells = of_engine("sqlite", "load", {"raw": 100.0, "ours (sessions)": 100.0, "ours (scoped)": scoped})
    cells["sqlite"]["page by metadata among 1 000"] = {"ours (scoped)": {"unit": "us", "note": "not offered"}}
    found = [finding for finding in findings(cells) if finding.what.endswith("ours (scoped)")]
    assert [(finding.goal, finding.held) for finding in found] == [("P2", held)]


def test_what_was_not_measured_is_not_told() -> None:
    assert only("P2", of_engine("sqlite", "load", {"raw": 100.0, "ours": 100.0})).held is None


@pytest.mark.parametrize(("engine", "factor"), [("sqlite", 2.5), ("postgresql", 3.0), ("redis", 1.6), ("mysql", 1.3)])
def test_many_tasks_are_a_multiple_of_the_driver(engine: str, factor: float) -> None:
    enough = of_engine(engine, OWN, {"raw": 1000.0, "ours": 1000 * factor}, "per_s")
    short = of_engine(engine, OWN, {"raw": 1000.0, "ours": 999 * factor}, "per_s")
    assert only("P3", enough).held is True
    assert only("P3", short).held is False


def test_one_session_loses_nothing_and_has_no_gaps() -> None:
    cells = of_engine("redis", ONE, {"ours": 1000.0}, "per_s", lost=0, gaps=1, checked=80)
    assert only("P4", cells).held is False
    cells["redis"][ONE]["ours"]["gaps"] = 0
    assert only("P4", cells).held is True


@pytest.mark.parametrize(
    ("peer", "ours", "wanted", "held"),
    [
        (3_000.0, 201.0, "at least 10 x", True),  # 0.67 x 30 is more than 10, so 10 is enough
        (3_000.0, 301.0, "at least 10 x", False),
        (1_000.0, 149.0, "at least 6.7 x", True),
        (1_000.0, 150.0, "at least 6.7 x", False),
    ],
)
def test_an_append_beside_a_peer(peer: float, ours: float, wanted: str, held: bool) -> None:
    finding = only("P5", of_engine("postgresql", "append at 0", {"raw": 100.0, "ours": ours, "adk": peer}))
    assert finding.wanted.startswith(wanted)
    assert finding.held is held


@pytest.mark.parametrize(
    ("engine", "metric", "peer", "times"),
    [
        ("sqlite", "append at 1 000", "openai-agents (sqlalchemy)", 5.0),
        ("sqlite", "last 20 of 1 000", "openai-agents (sqlalchemy)", 3.0),
        ("postgresql", "append at 0", "openai-agents", 5.0),
        ("postgresql", "last 20 of 10 000", "openai-agents", 2.5),
        ("sqlite", "append at 10 000", "adk", 5.0),
        ("postgresql", "page by user among 1 000", "adk", 5.0),
    ],
)
def test_a_framework_on_this_storage_beside_itself(engine: str, metric: str, peer: str, times: float) -> None:
    for factor, held in ((times, True), (0.99 * times, False)):
        cells = of_engine(engine, metric, {f"{peer.partition(' ')[0]} on ours": 10.0, peer: 10.0 * factor})
        assert only("bridges", cells).held is held


@pytest.mark.parametrize(
    ("metric", "peer", "times"),
    [("user", "agno", 50), ("user", "langgraph", 50), ("user", "adk", 7), ("metadata", "adk", 1_000)],
)
def test_a_page_beside_a_peer(metric: str, peer: str, times: int) -> None:
    name = f"page by {metric} among 100 000"
    assert only("P6", of_engine("sqlite", name, {"ours": 10.0, peer: 10.0 * times})).held is True
    assert only("P6", of_engine("sqlite", name, {"ours": 10.0, peer: 9.9 * times})).held is False


def test_a_page_among_fewer_tells_nothing_of_the_goal() -> None:
    cells = of_engine("sqlite", "page by user among 10 000", {"ours": 10.0, "agno": 5_000.0})
    assert [finding for finding in findings(cells) if finding.goal == "P6"] == []


def test_an_import_is_compared_by_rates() -> None:
    cells = of_engine("mysql", IMPORT, {"raw": 1000.0, "ours": 600.0, "agno": 12.0}, "per_s")
    assert [finding.held for finding in findings(cells) if finding.goal == "P7"] == [True, True]
    cells = of_engine("mysql", IMPORT, {"raw": 1000.0, "ours": 599.0, "agno": 12.0}, "per_s")
    assert [finding.held for finding in findings(cells) if finding.goal == "P7"] == [False, False]


@pytest.mark.parametrize(("longest", "held"), [(120.0, True), (121.0, False)])
def test_growth_compares_ours_with_ours(longest: float, held: bool) -> None:
    cells = of_engine("sqlite", "append at 10", {"ours": 100.0})
    cells["sqlite"] |= of_engine("sqlite", "append at 100 000", {"ours": longest})["sqlite"]
    assert only("P8", cells).held is held


@pytest.mark.parametrize(("peak", "held"), [(19.0, True), (19.1, False)])
def test_memory_is_a_difference(peak: float, held: bool) -> None:
    cells = of_engine("redis", "memory of a walk over 10 000", {"ours": 3.0}, "MiB")
    cells["redis"] |= of_engine("redis", "memory of a walk over 1 000 000", {"ours": peak}, "MiB")["redis"]
    assert only("P9", cells).held is held


@pytest.mark.parametrize(("lost", "errors", "held"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_nothing_is_lost_and_no_error_reaches_a_caller(lost: int, errors: int, held: bool) -> None:
    facts = {"lost": lost, "gaps": 0, "checked": 80, "errors": errors}
    assert only("P10", of_engine("mysql", STATE, {"ours": 900.0}, "per_s", **facts)).held is held


def test_where_ours_failed_the_goal_is_missed() -> None:
    cells: dict[str, Any] = {"mysql": {STATE: {"ours": {"unit": "per_s", "note": "fails: TimeoutError: "}}}}
    assert only("P10", cells).held is False
    cells = of_engine("sqlite", "load", {"raw": 100.0})
    cells["sqlite"]["load"]["ours"] = {"unit": "us", "note": "fails: RuntimeError: no"}
    assert only("P1", cells) == Finding(
        "P1", "load", "sqlite", "at most 1.5 x raw", "fails: RuntimeError: no", held=False
    )


def test_that_a_peer_failed_misses_no_goal() -> None:
    name = "page by user among 100 000"
    cells = of_engine("sqlite", name, {"ours": 10.0})
    cells["sqlite"][name]["agno"] = {"unit": "us", "note": "fails: TimeoutError: "}
    assert only("P6", cells).held is None


@pytest.mark.parametrize(("sync", "held"), [(280.0, True), (280.5, False)])
def test_the_sync_wrapper_is_a_difference(sync: float, held: bool) -> None:
    cells = of_engine("sqlite", "get_session", {"ours (sessions)": 180.0, "ours (sync)": sync})
    assert only("P11", cells).held is held


@pytest.mark.parametrize(
    ("metric", "taken", "held"),
    [("import beside pydantic", 60.0, True), ("import beside pydantic", 60.5, False), ("--help", 501.0, False)],
)
def test_programs_start_quickly(metric: str, taken: float, held: bool) -> None:
    assert only("start", of_engine("sqlite", metric, {"ours": taken}, "ms")).held is held


@pytest.mark.parametrize(("rate", "held"), [(500.0, True), (499.0, False)])
def test_a_verified_copy_beside_a_plain_loop(rate: float, held: bool) -> None:
    cells = of_engine("sqlite", "copy of 2 000 session files", {"raw": 1000.0, "ours": rate}, "per_s")
    assert only("P12", cells).held is held


@pytest.mark.parametrize(("rate", "held"), [(1_460.0, True), (1_450.0, False)])
def test_a_verified_copy_beside_the_migration_of_adk(rate: float, held: bool) -> None:
    cells = of_engine("sqlite", "copy of 2 000 session files", {"ours": rate}, "per_s")
    cells["sqlite"] |= of_engine("sqlite", "adk migrate session, 2 000", {"adk": 73.0}, "per_s")["sqlite"]
    beside = [finding for finding in findings(cells) if finding.wanted == "at least 20 x `adk migrate session`"]
    assert [finding.held for finding in beside] == [held]


@pytest.mark.parametrize(("long", "held"), [(120.0, True), (121.0, False)])
def test_a_page_takes_no_longer_where_histories_are_long(long: float, held: bool) -> None:
    cells = of_engine("mysql", "page of 20 with 10 events each", {"ours": 100.0})
    cells["mysql"] |= of_engine("mysql", "page of 20 with 1 000 events each", {"ours": long})["mysql"]
    assert only("P8", cells).held is held
