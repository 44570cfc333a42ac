"""``unified-storage inspect``: what a place is and holds, and one of its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_storage_cli.arguments import AnyPlace, AsJson
from unified_storage_cli.output import (
    QUIET,
    WORTH_A_LOOK,
    grouped,
    print_json,
    print_line,
    print_table,
    printable,
    styled,
)

if TYPE_CHECKING:
    from legacy.migration import PlaceFacts


def inspect(
    url: AnyPlace,
    session_id: Annotated[
        str | None, typer.Argument(metavar="SESSION_ID", help="One session of it, by the id that people see.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With SESSION_ID: also what the session says.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a place holds, or what shape one session has.

    Nothing is written. Contents stay hidden without --show-values.
    """
    if session_id is None:
        if show_values:
            raise typer.BadParameter("it needs the id of a session", param_hint="'--show-values'")
        _inspect_place(url, as_json)
    else:
        _inspect_session(url, session_id, show_values, as_json)


def _inspect_place(url: str, as_json: bool) -> None:
    import asyncio

    from legacy.migration import inspect_place

    facts = asyncio.run(inspect_place(url))
    if as_json:
        print_json(facts.to_dict())
    else:
        _print_place(facts)


def _inspect_session(url: str, session_id: str, show_values: bool, as_json: bool) -> None:
    import asyncio

    from legacy.migration import inspect_session

    facts = asyncio.run(inspect_session(url, session_id, show_values=show_values))
    if show_values:
        facts["document"] = _exact(facts["document"])
        facts["history"] = [_exact(body) for body in facts["history"]]
    if as_json:
        print_json(facts)
    else:
        _print_session(facts)


def _exact(value: Any) -> Any:
    """*value* with what JSON lacks (bytes, times, NaN) in its tagged form."""
    import json

    from unified_storage.values import encode

    return json.loads(encode(value))


def _print_place(facts: PlaceFacts) -> None:
    print_line(styled(printable(facts.place), "bold"))
    rows = [("kind", facts.kind), ("sessions", grouped(facts.sessions))]
    rows += [(f"records {name}", grouped(count)) for name, count in sorted(facts.records.items()) if name != "session"]
    rows.append(("entries", grouped(facts.entries)))
    if facts.formats:
        rows.append(("formats", _counts(facts.formats)))
    if facts.newest is not None:
        rows.append(("newest", f"{facts.newest['session_id']}, {facts.newest['updated_at']}"))
    if facts.left_out:
        rows.append(("left out", _counts(facts.left_out)))
    rows += [(f"{name} paths", ", ".join(paths)) for name, paths in facts.indexed.items()]
    rows += [(name, value) for name, value in facts.health.items()]
    _print_facts(rows)


def _print_session(facts: Mapping[str, Any]) -> None:
    print_line(styled(printable(facts["session_id"]), "bold"))
    plain = ("file", "format", "version", "created_at", "updated_at", "expires_at")
    rows = [(name, facts[name]) for name in plain if facts[name] is not None]
    rows += [("document", ", ".join(facts["keys"])), ("metadata", ", ".join(facts["metadata_keys"]))]
    rows += [(f"log {name.partition('/')[0]}", f"{grouped(count)} entries") for name, count in facts["logs"].items()]
    if facts["roles"]:
        rows.append(("messages", _counts(facts["roles"])))
    _print_facts(rows)
    if facts["warnings"]:
        print_line(styled(f"Warnings: {printable(', '.join(facts['warnings']))}", WORTH_A_LOOK))
    if "document" in facts:
        _print_values("document", facts["document"])
        _print_values("history", facts["history"])


def _print_facts(rows: list[tuple[str, Any]]) -> None:
    print_table([(styled(name, QUIET), printable(value)) for name, value in rows])


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{grouped(count)} {name}" for name, count in ordered)


def _print_values(name: str, value: Any) -> None:
    import json

    print_line(styled(f"{name}:", "bold"))
    # a line break inside a text is escaped by JSON, so each printed line is one of ours
    for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
        print_line(f"  {printable(line)}")
