"""The report as a page: whole in itself, true, and safe to open whatever the files are called."""

from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.running import DAMAGED, run, write_session
from unified_storage_cli.plots import Part, bars, by_size, columns, over_time, shares

VOID = {"meta", "br"}


class Page(HTMLParser):
    """The tags of a page, in pairs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture
def page(capsys, tmp_path: Path, url: str) -> str:
    assert run(capsys, "copy", DAMAGED, url, "--report", tmp_path / "report.html").code == 3
    return (tmp_path / "report.html").read_text("utf-8")


def test_the_page_needs_nothing_from_elsewhere(page):
    tags = Page(page)
    assert not {"script", "link", "img", "iframe"} & set(tags.tags)
    assert tags.links == []
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page


def test_the_plots_are_well_formed_and_true(page):
    plots = [ElementTree.fromstring(plot) for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    titles = {title.text for plot in plots for title in plot.iter("title")}
    assert {"copied: 2", "duplicate: 1", "quarantined: 4"} <= titles
    assert {"invalid_json: 1", "empty_file: 1", "unknown_status: 1"} <= titles


def test_the_page_lists_what_to_look_at(page):
    for name in ("orders-240612-080000-bbbbbb.json", "invalid_session_id", "offset 700"):
        assert name in page


def test_the_page_shows_no_contents(page):
    assert "blueberries" not in page
    assert "ines" not in re.sub(r"<style>.*?</style>", "", page)


def test_names_of_files_cannot_do_anything(capsys, tmp_path, url):
    folder = tmp_path / "odd"
    write_session(folder, "a")
    (folder / "<script>alert(1)<!--.json").write_text("")
    (folder / "bytes\udcff.json").write_text("")
    run(capsys, "copy", folder, url, "--report", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def test_a_report_of_nothing_is_a_page_too(capsys, tmp_path, url):
    (tmp_path / "empty").mkdir()
    run(capsys, "copy", f"legacy+file://{tmp_path}/empty", url, "--report", tmp_path / "report.html")
    Page((tmp_path / "report.html").read_text("utf-8"))


def test_shares_give_every_part_room():
    plot = ElementTree.fromstring(shares([Part("a", 1_000_000, "copied"), Part("b", 1, "conflict"), Part("c", 0, "x")]))
    widths = [float(block.get("width", "0")) for block in plot.iter("rect")]
    assert len(widths) == 2
    assert min(widths) >= 3
    assert sum(widths) == pytest.approx(720, abs=0.2)


@pytest.mark.parametrize(
    ("days", "steps", "first", "last"),
    [
        ({date(2024, 5, 1): 2, date(2024, 5, 4): 1}, 4, "2024-05-01", "2024-05-04"),
        ({date(2023, 11, 9): 2, date(2024, 12, 4): 1}, 14, "2023-11", "2024-12"),
        ({date(1990, 1, 1): 2, date(2024, 12, 4): 1}, 35, "1990", "2024"),
        ({date(1, 1, 1): 2, date(9999, 12, 31): 1}, 100, "0000s", "9900s"),
    ],
)
def test_time_is_shown_in_the_finest_steps_that_fit(days, steps, first, last):
    counts = over_time(days)
    assert (len(counts), counts[0], counts[-1]) == (steps, (first, 2), (last, 1))


def test_plots_of_nothing_are_plots():
    for plot in (shares([]), bars([]), columns([], "plain")):
        ElementTree.fromstring(plot)
    assert over_time({}) == by_size({}) == []


def test_sizes_are_shown_in_powers_of_two():
    assert by_size({10: 3, 12: 1}) == [("under 1 KiB", 3), ("under 2 KiB", 0), ("under 4 KiB", 1)]
