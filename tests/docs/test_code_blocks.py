"""Every code block of the README and of the documentation does what the page says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs.code_blocks import Reader, blocks_of, masked
from tests.support import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_code_block_does_what_the_page_says(page: Path, checkout: Path):
    with Reader(checkout) as reader:
        for block in blocks_of(page.read_text("utf-8")):
            for what, told, printed in reader.run(block):
                assert printed == told, f"{page.name}, line {block.line}: {what}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path):
    for match in LINK.finditer(page.read_text("utf-8")):
        assert (page.parent / match["target"]).exists(), f"{page.name}: {match['target']}"


def test_the_pages_are_all_reached_from_the_first():
    reached: set[Path] = set()
    ahead = [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        ahead += [Path(os.path.normpath(page.parent / match["target"])) for match in LINK.finditer(page.read_text())]
    assert set(PAGES) <= reached


def test_a_block_that_says_something_wrong_is_found(tmp_path: Path):
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```console\n$ echo one\ntwo\n```\n"
    with Reader(tmp_path) as reader:
        results = [result for block in blocks_of(page) for result in reader.run(block)]
    assert [(told, printed) for _, told, printed in results] == [("3", "2"), ("two", "one")]


def test_a_command_that_fails_is_found_unless_the_page_shows_its_code(tmp_path: Path):
    silent, shown = "```console\n$ false\n$ echo on\non\n```\n", "```console\n$ false\n$ echo $?\n1\n```\n"
    with Reader(tmp_path) as reader:
        with pytest.raises(AssertionError, match="failed with 1"):
            list(reader.run(blocks_of(silent)[0]))
        assert [(told, printed) for _, told, printed in reader.run(blocks_of(shown)[0])] == [("", ""), ("1", "1")]


def test_names_and_the_loop_are_shared_by_the_blocks_of_a_page(tmp_path: Path):
    page = "```python\nimport asyncio\na = 1\n```\n```python\nawait asyncio.sleep(0)\nprint(a)\n```\n```text\n1\n```\n"
    with Reader(tmp_path) as reader:
        assert [told == printed for block in blocks_of(page) for _, told, printed in reader.run(block)] == [True]


def test_only_what_differs_from_run_to_run_is_masked():
    assert masked("Done in 0.4 s.\ncopying 3 of 3, 8/s\n  copied  3") == "Done in DURATION.\n  copied  3"
    assert masked("2024-05-01T10:00:00.000000+00:00") == "2024-05-01T10:00:00.000000+00:00"
    assert masked("2026-05-01T10:00:00.000000+00:00") == "TIME"
