"""Plots as inline SVG. Colours are classes, which the page that holds them gives a meaning in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

WIDTH = 720
_ROW, _LABEL, _NUMBER = 24, 230, 70
_HEIGHT, _FOOT = 140, 20
_MOST_COLUMNS = 60
_GAP = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a plot: what it is, how many, and the class that colours it."""

    name: str
    count: int
    colour: str


def shares(parts: Sequence[Part]) -> str:
    """One bar of all parts side by side; what is above nothing shows."""
    there = [part for part in parts if part.count]
    whole = sum(part.count for part in there)
    least = 3.0
    room = WIDTH - least * len(there)
    drawn, left = [], 0.0
    for part in there:
        width = least + room * part.count / whole
        drawn.append(_block(left, 0, width, 36, part.colour, f"{part.name}: {part.count}"))
        left += width
    return _svg(36, drawn, "outcomes")


def bars(parts: Sequence[Part]) -> str:
    """One bar below the other, each with its name and count."""
    most = max((part.count for part in parts), default=1)
    drawn = []
    for row, part in enumerate(parts):
        top = row * _ROW
        width = max(2.0, (WIDTH - _LABEL - _NUMBER) * part.count / most)
        drawn.append(_text(_LABEL - 8, top + 16, part.name, "end"))
        drawn.append(_block(_LABEL, top + 3, width, _ROW - 6, part.colour, f"{part.name}: {part.count}"))
        drawn.append(_text(_LABEL + width + 6, top + 16, str(part.count), "start"))
    return _svg(max(1, len(parts)) * _ROW, drawn, "counts")


def columns(counts: Sequence[tuple[str, int]], colour: str) -> str:
    """One column beside the other, from left to right; the first and the last are named, and the highest counted."""
    most = max((count for _, count in counts), default=1)
    step = WIDTH / max(1, len(counts))
    drawn = [_text(WIDTH, 12, f"highest: {most}", "end")]
    for place, (name, count) in enumerate(counts):
        height = (_HEIGHT - _FOOT - 16) * count / most
        top = _HEIGHT - _FOOT - height
        drawn.append(_block(place * step, top, max(1.0, step - _GAP), height, colour, f"{name}: {count}"))
    if counts:
        drawn.append(_text(0, _HEIGHT - 5, counts[0][0], "start"))
    if len(counts) > 1:
        drawn.append(_text(WIDTH, _HEIGHT - 5, counts[-1][0], "end"))
    return _svg(_HEIGHT, drawn, "columns")


def over_time(days: Mapping[date, int]) -> list[tuple[str, int]]:
    """Counts by day, month, year, ten or a hundred years, whichever is the finest that fits, empty ones included."""
    if not days:
        return []
    first, last = min(days), max(days)
    for name in (_by_day, _by_month, _by_year, _by_decade, _by_century):
        steps = range(name(first), name(last) + 1)
        if len(steps) <= _MOST_COLUMNS or name is _by_century:
            break
    counts = dict.fromkeys(steps, 0)
    for day, count in days.items():
        counts[name(day)] += count
    return [(_NAMES[name.__name__](step), count) for step, count in counts.items()]


def by_size(sizes: Mapping[int, int]) -> list[tuple[str, int]]:
    """Counts by powers of two: *sizes* has them by bit length."""
    if not sizes:
        return []
    steps = range(min(sizes), max(sizes) + 1)
    return [(f"under {_bytes(1 << step)}", sizes.get(step, 0)) for step in steps]


def _bytes(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"


def _by_day(day: date) -> int:
    return day.toordinal()


def _by_month(day: date) -> int:
    return day.year * 12 + day.month - 1


def _by_year(day: date) -> int:
    return day.year


def _by_decade(day: date) -> int:
    return day.year // 10


def _by_century(day: date) -> int:
    return day.year // 100


_NAMES = {
    "_by_day": lambda step: date.fromordinal(step).isoformat(),
    "_by_month": lambda step: f"{step // 12:04}-{step % 12 + 1:02}",
    "_by_year": lambda step: f"{step:04}",
    "_by_decade": lambda step: f"{step * 10:04}s",
    "_by_century": lambda step: f"{step * 100:04}s",
}


def _svg(height: float, drawn: Sequence[str], label: str) -> str:
    inside = "".join(drawn)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _block(left: float, top: float, width: float, height: float, colour: str, title: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{escape(colour)}" {place}><title>{escape(title)}</title></rect>'


def _text(left: float, top: float, text: str, anchor: str) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
