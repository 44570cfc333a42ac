"""agno's sessions: 3.x (a row, and a row for each run), 2.x (a row that holds the runs), 1.x (read only).

A document is ``{"session": the row, "runs": [run, ...]}``: the row's JSON columns parsed, times as epoch seconds. What
reading leaves out of a value is kept beside it, so that it is written as it was:

- ``rows``, of 3.x: for each run, in order, ``{"run_id"}`` with those columns of its row that say something else than
  the run itself; ``run_index`` counts on from the row before.
- ``encoded``: JSON columns that are encoded another number of times than their writer does, by name; on SQLite 2.x
  encodes twice, as all others once.
- ``texts``: the texts of JSON columns that their value does not give back: those that are no JSON, and a ``null``.

A run is as agno has it; one whose row does not parse is ``{"run_id", "run_data": its text}``. Of 1.x the runs are taken
out of ``memory``, and ``kind``, ``table`` and ``summary`` stand beside the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from session_adapter.formats.agno_messages import event_of, message_of
from session_adapter.formats.agno_runs import AGENT, KINDS, RUNS_OF_2, RUNS_OF_3, kind_of, type_of
from session_adapter.formats.format import Event, SessionBundle
from session_adapter.formats.json_values import not_json
from session_adapter.formats.peer import Fields, PeerFormat
from session_adapter.formats.places import Path, is_mapping, text_of
from session_adapter.formats.runs import Place, RunForm, own_id, shown_messages
from session_adapter.timestamps import read_time
from unified_storage.errors import StorageValidationError

ROW_COLUMNS = ("session_id", "session_type", "agent_id", "team_id", "workflow_id", "user_id")
JSON_COLUMNS = ("session_data", "agent_data", "team_data", "workflow_data", "metadata", "summary")
_FURTHER = ("agent_data", "team_data", "workflow_data", "metrics")
_LOSES = ("user_state", "app_state", "expires_at", "further_logs", "further_fields", "bytes")


def in_session(*path: str) -> tuple[Path, ...]:
    """The place of a column of the row, or of something in it."""
    return (("session", *path),)


PLACES: Mapping[str, tuple[Path, ...]] = {
    "id": in_session("session_id"),
    "kind": in_session("session_type"),
    **{name: in_session(name) for name in ("agent_id", "team_id", "workflow_id", "user_id", "metadata", "summary")},
    **{name: in_session(name) for name in ("created_at", "updated_at", "agent_data", "team_data", "workflow_data")},
    "app_name": in_session("metadata", "app_name"),
    "name": in_session("session_data", "session_name"),
    "state": in_session("session_data", "session_state"),
    "metrics": in_session("session_data", "session_metrics"),
}


# what stands in a document


def blank(fields: Fields) -> dict[str, Any]:
    """The document of a new session."""
    names = {name: text_of(fields.get(name)) for name in ("agent_id", "team_id", "workflow_id", "user_id")}
    times = {name: seconds_of(fields[name]) for name in ("created_at", "updated_at")}
    row = {"session_id": fields["id"], "session_type": kind_of(fields)} | names
    return {"session": {**row, **dict.fromkeys(JSON_COLUMNS), **times}, "runs": []}


def _blank_with_rows(fields: Fields) -> dict[str, Any]:
    return {**blank(fields), "rows": []}


def seconds_of(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())


def written(name: str, value: Any) -> Any:
    """A changed field as agno keeps it."""
    if name == "kind":
        return value if value in KINDS else None
    return _summary(value) if name == "summary" else value


def _summary(value: Any) -> Any:
    """A summary of ours as agno's own, which knows three fields and refuses a fourth."""
    if value is None or isinstance(value, str):
        return None if value is None else {"summary": value}
    if not is_mapping(value):
        return value
    text = value.get("content", value.get("summary"))
    moment = read_time(value.get("updated_at") or value.get("created_at"), None).moment
    summary: dict[str, Any] = {"summary": "" if text is None else str(text)}
    if isinstance(value.get("topics"), list):
        summary["topics"] = value["topics"]
    return summary if moment is None else summary | {"updated_at": moment.isoformat()}


def spelled_apart(document: dict[str, Any]) -> dict[str, Any]:
    """*document* without what only says how its values are spelled."""
    return {name: value for name, value in document.items() if name not in ("encoded", "texts")}


# the rows of runs


def row_of(run: Any, session: Mapping[str, Any], run_index: int) -> dict[str, Any]:
    """The row of *run*, without its data, as the run and the row of its session tell it."""
    told = run if is_mapping(run) else {}
    begun = told.get("created_at") if _is_number(told.get("created_at")) else session.get("created_at")
    return {
        "run_id": own_id(run),
        "session_id": session.get("session_id"),
        "run_type": type_of(told, session),
        **{name: told.get(name) for name in ("agent_id", "team_id", "workflow_id")},
        "user_id": session.get("user_id"),
        **{name: told.get(name) for name in ("parent_run_id", "status")},
        "run_index": run_index,
        "created_at": begun,
        "updated_at": begun,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _WithRuns(PeerFormat):
    """2.x, in which the row of a session holds its runs."""

    def write(self, bundle: SessionBundle) -> dict[str, Any]:
        return super().write(with_known_kind(bundle))


class _WithRunRows(PeerFormat):
    """3.x, in which each run has a row of its own."""

    def write(self, bundle: SessionBundle) -> dict[str, Any]:
        document = super().write(with_known_kind(bundle))
        runs, rows = document.get("runs"), document.get("rows")
        if not isinstance(runs, list) or not isinstance(rows, list) or not all(map(is_mapping, rows)):
            return document
        return {**document, "rows": _rows(runs, rows)}


def with_known_kind(bundle: SessionBundle) -> SessionBundle:
    """*bundle* with the kind that its document has, where :func:`written` knows no other."""
    if bundle.session.get("kind", AGENT) is not None:
        return bundle
    return replace(bundle, session={name: value for name, value in bundle.session.items() if name != "kind"})


def _rows(runs: list[Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of *runs*, of which *rows* are known."""
    ids = [own_id(run) for run in runs]
    if [row.get("run_id") for row in rows] == ids:
        return rows
    known = {row.get("run_id"): row for row in rows}
    wanted = [known.get(id, {"run_id": id}) for id in ids]
    # Where an engine sorts a row without a place is its own: with new rows beside them, each gets one.
    return wanted if all(map(is_placed, wanted)) else placed_anew(wanted)


def is_placed(row: Mapping[str, Any]) -> bool:
    """Whether the row of a run says which of its session's it is."""
    return row.get("run_index", 0) is not None


def placed_anew(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """*rows* of which each has the place at which it stands."""
    return [{name: value for name, value in row.items() if name != "run_index"} for row in rows]


def _refused(document: Fields) -> str | None:
    """Why a document has no place in 3.x, where a run's id names its row."""
    ids = [own_id(run) for run in document["runs"]]
    if None in ids:
        return "run_without_id"
    return "run_id_twice" if len(set(ids)) < len(ids) else not_json(document)


# 1.x


def _run_in(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What holds the messages of a run: its response, where an older memory keeps question and answer."""
    response = run.get("response")
    return response if is_mapping(response) and "messages" not in run else run


def _places_of_1(run: Mapping[str, Any]) -> Iterator[Place]:
    return shown_messages(_run_in(run))


def _id_of_1(run: Any) -> str | None:
    return own_id(run) or (own_id(_run_in(run)) if is_mapping(run) else None)


def _begun_of_1(run: Mapping[str, Any]) -> Any:
    return _run_in(run).get("created_at")


def _event_of_1(message: Any) -> Event | None:
    return event_of(message)


def _never(event: Mapping[str, Any]) -> dict[str, Any]:
    raise StorageValidationError("agno 1.x is only read; write agno3")


_RUNS_OF_1 = RunForm(places=_places_of_1, id=_id_of_1, begun=_begun_of_1)
_ENGINES = ("sqlite", "postgresql")


def _present(form: type[PeerFormat], name: str, run_form: RunForm, **further: Any) -> PeerFormat:
    """A format that agno still writes."""
    return form(
        name,
        event_of,
        message_of,
        history_path=("runs",),
        own_places=PLACES,
        run_form=run_form,
        family="agno",
        engines=_ENGINES,
        loses=_LOSES,
        entry_key=own_id,
        written_time=seconds_of,
        written=written,
        further=_FURTHER,
        compared=spelled_apart,
        **further,
    )


AGNO3 = _present(_WithRunRows, "agno3", RUNS_OF_3, blank=_blank_with_rows, row_lists=("rows",), refusal=_refused)
AGNO2 = _present(_WithRuns, "agno2", RUNS_OF_2, blank=blank, refusal=not_json)
AGNO1 = PeerFormat(
    "agno1",
    _event_of_1,
    _never,
    history_path=("runs",),
    own_places={
        **PLACES,
        "metadata": in_session("extra_data"),
        "app_name": in_session("extra_data", "app_name"),
        "kind": (("kind",),),
        "summary": (("summary",),),
    },
    run_form=_RUNS_OF_1,
    family="agno",
    engines=_ENGINES,
    writes=False,
    entry_key=_id_of_1,
    further=_FURTHER,
)
