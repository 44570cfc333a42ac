"""The report of a copy as one HTML file: it loads nothing from anywhere, and shows no session's contents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from unified_storage_cli.copy_summary import OUTCOMES, needs_a_look, said_of, zone_shown
from unified_storage_cli.output import grouped, printable
from unified_storage_cli.plots import Part, bars, by_size, columns, over_time, shares
from unified_storage_cli.progress import duration

if TYPE_CHECKING:
    from legacy.migration import CopyReport
    from legacy.stores.parcels import Item

MOST_ROWS = 2_000
_MOST_REASONS = 30
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #ffffff; --soft: #66707f; --line: #dde2ea }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --paper: #14181f; --soft: #97a1b1; --line: #2c3440 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 760px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin-top: 2rem }
code, td.id { overflow-wrap: anywhere } .soft, svg text { color: var(--soft); fill: var(--soft) }
svg { width: 100%; height: auto; display: block } svg text { font-size: 12px }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top } td.number { text-align: right }
.copied { fill: #2f9e63 } .equal { fill: #4c8fd6 } .duplicate { fill: #98a2b3 } .conflict { fill: #e0992b }
.quarantined { fill: #d64545 } .warning { fill: #e3c04b } .plain { fill: #4c8fd6 } .ignored { fill: #98a2b3 }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .4em } .key rect { width: 10px; height: 10px }
"""


@dataclass
class _Found:
    """What one walk over the items gives: counts for the plots, and the rows of the list."""

    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    days: Counter[date] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    rows: list[Item] = field(default_factory=list)
    more: int = 0
    silent: int = 0

    def add(self, item: Item) -> None:
        colour = item.outcome if needs_a_look(item) or item.outcome in ("ignored", "duplicate") else "warning"
        self.reasons.update((reason, colour) for reason in item.reasons)
        if item.updated_at is not None and item.type == "session":
            self.days[item.updated_at.date()] += 1
            self.sizes[(item.size or 0).bit_length()] += 1
        if not item.reasons and item.outcome in ("copied", "equal"):
            self.silent += 1
        elif len(self.rows) < MOST_ROWS:
            self.rows.append(item)
        else:
            self.more += 1


def write_html(done: CopyReport, file: Path) -> None:
    """Write the report of a copy to *file*."""
    found = _Found()
    for item in done.items:
        found.add(item)
    with file.open("w", encoding="utf-8", errors="backslashreplace") as page:
        page.writelines(f"{line}\n" for line in _page(done, found))


def _page(done: CopyReport, found: _Found) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><title>Copy of sessions</title>'
    # nothing is loaded, and nothing in a file's name can be run
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
    yield from _head(done)
    yield from _ledger(done)
    yield from _reasons(found)
    yield from _distribution("Sessions by their last change", over_time(found.days))
    yield from _distribution("Sessions by size", by_size(found.sizes))
    yield from _list(found)
    yield "</body></html>"


def _head(done: CopyReport) -> Iterator[str]:
    title = "Dry run of a copy" if done.dry_run else "Copy of sessions"
    yield f"<h1>{title}</h1>"
    yield f"<p><code>{_text(done.source)}</code><br>→ <code>{_text(done.target)}</code></p>"
    facts = [f"took {duration(done.seconds)}", f"exit code {done.exit_code}"]
    if done.source_timezone is not None:
        facts.append(f"times without an offset read in: {escape(zone_shown(done.source_timezone))}")
    yield f'<p class="soft">{"; ".join(facts)}</p>'


def _ledger(done: CopyReport) -> Iterator[str]:
    ledger = done.ledger
    counts = [
        (name, getattr(ledger, name), said_of(name, meaning, dry_run=done.dry_run)) for name, _, meaning in OUTCOMES
    ]
    yield f"<h2>{grouped(ledger.read)} sessions read</h2>"
    yield shares([Part(name, count, name) for name, count, _ in counts])
    yield "<table>"
    for name, count, meaning in counts:
        key = f'<svg class="key" viewBox="0 0 10 10" aria-hidden="true"><rect class="{name}"/></svg>'
        yield f'<tr><td>{key}{name}</td><td class="number">{grouped(count)}</td><td class="soft">{meaning}</td></tr>'
    beside = (
        ("verified", ledger.verified, "read back and compared"),
        ("mismatched", ledger.mismatched, "read back, and not what was written"),
        ("ignored", ledger.ignored, "no sessions, not counted as read"),
        ("other records", done.others.read, "of other types than session"),
    )
    for name, count, meaning in beside:
        yield f'<tr><td>{name}</td><td class="number">{grouped(count)}</td><td class="soft">{meaning}</td></tr>'
    yield "</table>"
    for kind, times in sorted(done.lossy.items()):
        yield f"<p>The target has no place for: {_text(kind)} ({grouped(times)})</p>"


def _reasons(found: _Found) -> Iterator[str]:
    if not found.reasons:
        return
    shown = found.reasons.most_common(_MOST_REASONS)
    yield "<h2>Reasons and warnings</h2>"
    yield bars([Part(printable(reason), count, colour) for (reason, colour), count in shown])
    if len(found.reasons) > len(shown):
        yield f'<p class="soft">and {grouped(len(found.reasons) - len(shown))} rarer ones</p>'


def _distribution(title: str, counts: list[tuple[str, int]]) -> Iterator[str]:
    if counts:
        yield f"<h2>{title}</h2>"
        yield columns(counts, "plain")


def _list(found: _Found) -> Iterator[str]:
    yield "<h2>What to look at, and what was left out</h2>"
    if not found.rows:
        yield "<p>Nothing.</p>"
    else:
        yield "<table><tr><th>file</th><th>id</th><th>outcome</th><th>reasons</th></tr>"
        for item in found.rows:
            told = ", ".join(item.reasons) + (f" ({item.detail})" if item.detail else "")
            cells = (item.file or "", item.id or "", item.outcome, told)
            yield "<tr>" + "".join(f'<td class="id">{_text(cell)}</td>' for cell in cells) + "</tr>"
        yield "</table>"
    if found.more:
        yield f"<p>{grouped(found.more)} more do not stand here; --report FILE.json lists every one.</p>"
    yield f'<p class="soft">{grouped(found.silent)} records were copied or found equal without a remark.</p>'


def _text(text: object) -> str:
    return escape(printable(text))
