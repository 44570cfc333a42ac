"""The status of a migration as one HTML file: it loads nothing from anywhere, and shows no session's contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from unified_storage_cli.html_report import STYLE
from unified_storage_cli.migrate.showing import lines_of
from unified_storage_cli.output import grouped, printable
from unified_storage_cli.plots import Part, bars, columns, shares

_LEDGER = ("copied", "equal", "duplicate", "conflict", "tombstoned", "quarantined")
_COLOURS = {"tombstoned": "duplicate"}


def page_of(facts: dict[str, Any]) -> str:
    """The page of a status as :func:`legacy.migration.live.status.status` gave it."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><title>Live migration</title>'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
    yield "<h1>Live migration</h1>"
    yield from (f"<p>{_text(line)}</p>" for line in lines_of(facts))
    yield from _ledger(facts["pass"])
    yield from _progress(facts["pass"]["samples"])
    yield from _odd(facts)
    yield from _members(facts["members"]["each"])
    yield "</body></html>"


def _ledger(state: dict[str, Any]) -> Iterator[str]:
    ledger = state["ledger"]
    yield f"<h2>{grouped(ledger['read'])} sessions read by pass {state['number']}</h2>"
    yield shares([Part(name, ledger[name], _COLOURS.get(name, name)) for name in _LEDGER])
    rows = [(name, grouped(ledger[name])) for name in (*_LEDGER, "retried")]
    yield from _table(("outcome", "sessions"), rows)


def _progress(samples: Sequence[Sequence[float]]) -> Iterator[str]:
    if len(samples) < 2:
        return
    begun = samples[0][0]
    yield "<h2>Sessions done, over the seconds of the pass</h2>"
    yield columns([(f"{moment - begun:.0f} s", int(done)) for moment, done in samples], "plain")


def _odd(facts: dict[str, Any]) -> Iterator[str]:
    found = [
        (name, one["id"], one["reason"] or "")
        for name in ("conflict", "quarantined")
        for one in facts[name]["sessions"]
    ]
    found += [("suspect", id, "") for id in facts["suspect"]] + [
        ("open write", id, "") for id in facts["intents"]["ids"]
    ]
    yield "<h2>What to look at</h2>"
    if not found:
        yield "<p>Nothing.</p>"
        return
    kinds = Counter(f"{kind}: {reason}" if reason else kind for kind, _, reason in found)
    yield bars([Part(printable(kind), count, "quarantined") for kind, count in kinds.most_common(20)])
    yield from _table(("kind", "id", "reason"), found)


def _members(members: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "<h2>Programs</h2>"
    rows = [
        (one["member"], one["process"], one["phase"] or "joining", "acknowledged" if one["acknowledged"] else "late")
        for one in members
    ]
    yield from _table(("member", "process", "phase", ""), rows) if rows else ["<p>None takes part.</p>"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f'<td class="id">{_text(cell)}</td>' for cell in row) + "</tr>"
    yield "</table>"


def _text(text: object) -> str:
    return escape(printable(text))
