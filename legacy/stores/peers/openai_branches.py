"""What AdvancedSQLiteSession keeps beside items: which branches they stand in, in which turn, what a turn cost.

A row of items may stand in several branches. So an element says which of its session's rows it is (``row``, counted
from 1), and its place in its branch (``structure``). The branch ``main`` is the conversation, each other one a log
``branch:<name>``; rows of no branch are ``unplaced``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from legacy.stores.peers.kinds import PeerSession
from legacy.stores.peers.openai_items import BRANCH, MAIN, TIME, parsed
from legacy.stores.peers.openai_moments import Moments
from legacy.stores.peers.rows import Row, Rows
from session_adapter.formats import PeerFormat, entry_body
from session_adapter.formats.openai_agents import item_of, linked

Element = dict[str, Any]
Logs = dict[str, list[dict[str, Any]]]

_STRUCTURE = ("message_type", "sequence_number", "user_turn_number", "branch_turn_number", "tool_name")
_USAGE = ("branch_id", "user_turn_number", "requests", "input_tokens", "output_tokens", "total_tokens")
_DETAILS = ("input_tokens_details", "output_tokens_details")
_FURTHER = ("branch_reservations", "session_clear_generations")
_TABLES = ("message_structure", "turn_usage", *_FURTHER)
_MADE = (
    "CREATE TABLE message_structure (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,"
    " message_id INTEGER NOT NULL, branch_id TEXT NOT NULL DEFAULT 'main', message_type TEXT NOT NULL,"
    " sequence_number INTEGER NOT NULL, user_turn_number INTEGER, branch_turn_number INTEGER, tool_name TEXT,"
    " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
    " FOREIGN KEY (session_id) REFERENCES {sessions}(session_id) ON DELETE CASCADE,"
    " FOREIGN KEY (message_id) REFERENCES {messages}(id) ON DELETE CASCADE)",
    "CREATE TABLE turn_usage (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,"
    " branch_id TEXT NOT NULL DEFAULT 'main', user_turn_number INTEGER NOT NULL, requests INTEGER DEFAULT 0,"
    " input_tokens INTEGER DEFAULT 0, output_tokens INTEGER DEFAULT 0, total_tokens INTEGER DEFAULT 0,"
    " input_tokens_details JSON, output_tokens_details JSON, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
    " FOREIGN KEY (session_id) REFERENCES {sessions}(session_id) ON DELETE CASCADE,"
    " UNIQUE(session_id, branch_id, user_turn_number))",
    "CREATE TABLE branch_reservations (session_id TEXT NOT NULL, branch_id TEXT NOT NULL,"
    " PRIMARY KEY (session_id, branch_id))",
    "CREATE TABLE session_clear_generations (session_id TEXT PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0)",
    "CREATE INDEX idx_structure_session_seq ON message_structure(session_id, sequence_number)",
    "CREATE INDEX idx_structure_branch ON message_structure(session_id, branch_id)",
    "CREATE INDEX idx_structure_turn ON message_structure(session_id, branch_id, user_turn_number)",
    "CREATE INDEX idx_structure_branch_seq ON message_structure(session_id, branch_id, sequence_number)",
    "CREATE INDEX idx_turn_usage_session_turn ON turn_usage(session_id, branch_id, user_turn_number)",
)
_NAMELESS = frozenset(
    {"computer_call", "file_search_call", "web_search_call", "code_interpreter_call", "shell_call", "apply_patch_call"}
)
_SEARCH = frozenset({"tool_search_call", "tool_search_output"})


class Branches:
    """The four tables beside those of sessions and items. An older library made but the first two of them."""

    def __init__(self, rows: Rows, moments: Moments, tables: Sequence[str]) -> None:
        self._rows = rows
        self._moments = moments
        self._tables = tables

    @classmethod
    async def opened(cls, rows: Rows, moments: Moments) -> Branches:
        tables = await rows.tables()
        return cls(rows, moments, [name for name in _TABLES if name in tables])

    @staticmethod
    async def make(rows: Rows, sessions: str, messages: str) -> None:
        for statement in _MADE:
            await rows.execute(statement.format(sessions=rows.quoted(sessions), messages=rows.quoted(messages)))

    # reading

    async def read(self, wanted: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
        """The rows of each of *wanted*, by session and table."""
        found: dict[str, dict[str, list[Row]]] = {place: {name: [] for name in _TABLES} for place in wanted}
        among = f"session_id IN ({self._rows.listed(len(wanted))})"
        for table in self._tables:
            order = "sequence_number, id" if table == "message_structure" else "rowid"
            for row in await self._rows.select(f"SELECT * FROM {table} WHERE {among} ORDER BY {order}", *wanted):
                found[row["session_id"]][table].append(row)
        return found

    def document(
        self, items: Mapping[int, Element], rows: Mapping[str, list[Row]], warnings: dict[str, None]
    ) -> dict[str, Any]:
        """The parts of a document that *rows* tell; *items* are the session's, by row id."""
        structure = rows.get("message_structure", [])
        if any(row["message_id"] not in items for row in structure):
            warnings["place_without_item"] = None  # which the library does not show either
        placed = {row["message_id"] for row in structure}
        numbers = _numbered(items)
        unplaced = [{**element, "row": numbers[id]} for id, element in items.items() if id not in placed]
        if unplaced:
            warnings["items_of_no_branch"] = None
        generation = [row["generation"] for row in rows.get("session_clear_generations", [])]
        return {
            "messages": self._elements(items, structure, MAIN),
            "unplaced": unplaced,
            "turn_usage": [self._usage(row) for row in rows.get("turn_usage", [])],
            "reserved_branches": [row["branch_id"] for row in rows.get("branch_reservations", [])],
            "clear_generation": generation[0] if generation else None,
        }

    def logs(self, items: Mapping[int, Element], rows: Mapping[str, list[Row]], format: PeerFormat) -> Logs:
        """The branches beside ``main``, as logs."""
        structure = rows.get("message_structure", [])
        names = dict.fromkeys(row["branch_id"] for row in structure if row["branch_id"] != MAIN)
        return {BRANCH + name: _entries(self._elements(items, structure, name), format) for name in names}

    def _elements(self, items: Mapping[int, Element], structure: Iterable[Row], branch: str) -> list[Element]:
        numbers = _numbered(items)
        return linked(
            {**items[row["message_id"]], "row": numbers[row["message_id"]], "structure": self._place(row)}
            for row in structure
            if row["branch_id"] == branch and row["message_id"] in items
        )

    def _place(self, row: Row) -> dict[str, Any]:
        return {name: row[name] for name in _STRUCTURE} | self._moments.told("created_at", row["created_at"])

    def _usage(self, row: Row) -> dict[str, Any]:
        details = {name: _detail(row[name]) for name in _DETAILS}
        return {name: row[name] for name in _USAGE} | details | self._moments.told("created_at", row["created_at"])

    # writing

    def settled(
        self,
        document: Mapping[str, Any],
        main: list[Element],
        branches: Mapping[str, list[Element]],
        format: PeerFormat,
    ) -> tuple[dict[str, Any], Logs]:
        """The parts of a document, and the logs, as they will be shown: every element has its row and its place."""
        unplaced = [{**element} for element in document.get("unplaced") or []]
        lists = {MAIN: main, **dict(sorted(branches.items()))}
        placed = [
            element["structure"]["sequence_number"] for one in lists.values() for element in one if _is_placed(element)
        ]
        last = max(placed, default=0)
        for name, elements in lists.items():
            lists[name], last = _placed(elements, last)
        _number([element for one in lists.values() for element in one], unplaced)
        told: dict[str, Any] = {
            "messages": linked(lists.pop(MAIN)),
            "unplaced": unplaced,
            "turn_usage": [self._moments.settled("created_at", one) for one in document.get("turn_usage") or []],
            "reserved_branches": list(document.get("reserved_branches") or []),
            "clear_generation": document.get("clear_generation"),
        }
        return told, {name: _entries(linked(elements), format) for name, elements in lists.items() if elements}

    @staticmethod
    def rows_of(session: PeerSession) -> dict[int, Element]:
        """The items of a settled session by the row that each is to be."""
        every = [*session.document["messages"], *session.document["unplaced"]]
        every += [entry["body"]["value"] for entries in session.further_logs.values() for entry in entries]
        return {element["row"]: element for element in every}

    async def last_id(self, messages: str) -> int:
        """The highest id that an item has or ever had: none is used twice."""
        select = f"SELECT max(id) AS id FROM {self._rows.quoted(messages)}"
        [highest] = await self._rows.select(select)
        given = await self._rows.select("SELECT seq FROM sqlite_sequence WHERE name = ?", messages)
        return max([int(highest["id"] or 0), *(int(row["seq"]) for row in given)])

    async def delete(self, gone: Sequence[tuple[Any, ...]]) -> None:
        for table in self._tables:
            await self._rows.execute(f"DELETE FROM {table} WHERE session_id = ?", gone)

    async def write(self, session: PeerSession, ids: Mapping[int, int]) -> None:
        """Everything of *session* but its items, which have *ids* by their rows."""
        logs = {name.removeprefix(BRANCH): entries for name, entries in session.further_logs.items()}
        branches = {MAIN: session.document["messages"]}
        branches |= {name: [entry["body"]["value"] for entry in entries] for name, entries in logs.items()}
        places = [(ids[one["row"]], name, one["structure"]) for name, listed in branches.items() for one in listed]
        places.sort(key=lambda place: place[2]["sequence_number"])
        columns = ("message_id", "branch_id", *_STRUCTURE, "created_at")
        await self._insert(session, "message_structure", columns, (self._structure_row(*place) for place in places))
        usage = (self._usage_row(one) for one in session.document["turn_usage"])
        await self._insert(session, "turn_usage", (*_USAGE, *_DETAILS, "created_at"), usage)
        reserved = ((name,) for name in session.document["reserved_branches"])
        await self._insert(session, "branch_reservations", ("branch_id",), reserved)
        generation = session.document["clear_generation"]
        told = () if generation is None else ((generation,),)
        await self._insert(session, "session_clear_generations", ("generation",), told)

    def _structure_row(self, id: int, branch: str, place: Mapping[str, Any]) -> tuple[Any, ...]:
        return id, branch, *(place[name] for name in _STRUCTURE), self._moments.column("created_at", place)

    def _usage_row(self, told: Mapping[str, Any]) -> tuple[Any, ...]:
        details = (_detail_text(told[name]) for name in _DETAILS)
        return *(told[name] for name in _USAGE), *details, self._moments.column("created_at", told)

    async def _insert(
        self, session: PeerSession, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        listed = [(session.key, *row) for row in rows]
        if listed and table in self._tables:
            names = ", ".join(("session_id", *columns))
            marks = self._rows.listed(len(columns) + 1)
            await self._rows.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", listed)


def _numbered(items: Iterable[int]) -> dict[int, int]:
    return {id: number for number, id in enumerate(sorted(items), 1)}


def _entries(elements: Iterable[Element], format: PeerFormat) -> list[dict[str, Any]]:
    return [{"body": entry_body(format, element)} for element in elements]


def _detail(text: Any) -> Any:
    return parsed(text, json.dumps, {}) if isinstance(text, str) else text


def _detail_text(detail: Any) -> Any:
    return json.dumps(detail) if isinstance(detail, dict | list) else detail


# new entries among old ones


def _is_placed(element: Element) -> bool:
    return "structure" in element


def _placed(elements: Iterable[Element], last: int) -> tuple[list[Element], int]:
    """*elements* of one branch, each with a place behind the one before it, and the last number that was given."""
    made: list[Element] = []
    behind = 0
    for element in elements:
        place = element["structure"] if _is_placed(element) else _place_of(element, made)
        if place["sequence_number"] is None or place["sequence_number"] <= behind:
            last += 1
            place = {**place, "sequence_number": last}
        behind = place["sequence_number"]
        made.append({**element, "structure": place})
    return made, last


def _place_of(element: Element, before: Sequence[Element]) -> dict[str, Any]:
    """The place that the library would give an item added behind those *before*, its number left open."""
    item = item_of(element) or {}
    turns = [one["structure"] for one in before]
    begins = int(item.get("role") == "user")
    times: dict[str, Any] = {name: element[name] for name in TIME if name in element}
    return {
        "message_type": _type_of(item),
        "sequence_number": None,
        "user_turn_number": max((turn["user_turn_number"] or 0 for turn in turns), default=0) + begins,
        "branch_turn_number": max((turn["branch_turn_number"] or 0 for turn in turns), default=0) + begins,
        "tool_name": _tool_name(item),
        **times,
    }


def _type_of(item: Mapping[str, Any]) -> str:
    if item.get("role") in ("user", "assistant"):
        return str(item["role"])
    return str(item["type"]) if item.get("type") else "other"


def _tool_name(item: Mapping[str, Any]) -> str | None:
    kind, name = item.get("type"), item.get("name")
    if kind in ("mcp_call", "mcp_approval_request") and "server_label" in item:
        return ".".join(str(part) for part in (item["server_label"], name) if part) or None
    if kind in _NAMELESS:
        return str(kind)
    if kind in _SEARCH:
        return "tool_search"
    if name is None:
        return None
    namespace = item.get("namespace")
    return f"{namespace}.{name}" if namespace and namespace != name else str(name)


def _number(elements: Sequence[Element], unplaced: Sequence[Element]) -> None:
    """Give every element its row: old ones in their old order, new ones behind them, without gaps."""
    every = [*elements, *unplaced]
    known = sorted({element["row"] for element in every if "row" in element})
    numbers = {row: number for number, row in enumerate(known, 1)}
    last = len(numbers)
    for element in every:
        if "row" in element:
            element["row"] = numbers[element["row"]]
        else:
            last += 1
            element["row"] = last
