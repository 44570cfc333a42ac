"""Every code block of the README and of the documentation does what the page says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs.code_blocks import Block, Reader, blocks_of, masked
from tests.docs.page_servers import URLS, PageServer, page_server, servers_named
from tests.support import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
READ_HERE = [page for page in PAGES if not page.name.startswith("use-with-")]
"""Pages about other frameworks are read where these are installed: by ``make bridges-test``."""
SERVED = [
    pytest.param(page, kind, id=f"{page.relative_to(REPOSITORY)}-{kind}")
    for page in READ_HERE
    for kind in URLS
    if any(servers_named(block.text) == {kind} for block in blocks_of(page.read_text("utf-8")))
]
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#]+)(#(?P<part>[^)]*))?\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", READ_HERE, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_code_block_does_what_the_page_says(page: Path, checkout: Path):
    with Reader(checkout) as reader:
        check_blocks(page, reader, with_servers=set())


@pytest.mark.servers
@pytest.mark.parametrize(("page", "kind"), SERVED)
def test_every_code_block_about_a_server_does_what_the_page_says(page: Path, kind: str, checkout: Path):
    with page_server(kind) as server, Reader(checkout, server) as reader:
        check_blocks(page, reader, with_servers={kind})


def check_blocks(page: Path, reader: Reader, *, with_servers: set[str]) -> None:
    """Run the blocks of a page that need no server besides *with_servers*."""
    for block in blocks_of(page.read_text("utf-8")):
        if servers_named(block.text) <= with_servers:
            check_block(page, block, reader)


def check_block(page: Path, block: Block, reader: Reader) -> None:
    for what, told, printed in reader.run(block):
        assert printed == told, f"{page.name}, line {block.line}: {what}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_block_is_left_out_because_it_needs_two_servers(page: Path):
    assert all(len(servers_named(block.text)) <= 1 for block in blocks_of(page.read_text("utf-8")))


def test_the_url_of_a_page_becomes_that_of_a_server_and_back():
    server = PageServer("postgresql", "postgresql://u:secret@h:1/d?namespace=n")
    assert server.in_python(f'a("{URLS["postgresql"]}?pool_size=2")').endswith('d?namespace=n&pool_size=2")')
    assert server.in_shell(f"copy a {URLS['postgresql']}") == "copy a 'postgresql://u:secret@h:1/d?namespace=n'"
    assert server.as_told("a -> postgresql://u:***@h:1/d?namespace=n") == f"a -> {URLS['postgresql']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path):
    for match in LINK.finditer(page.read_text("utf-8")):
        target = page.parent / match["target"]
        assert target.exists(), f"{page.name}: {match['target']}"
        assert match["part"] is None or match["part"] in parts_of(target), f"{page.name}: {match[0]}"


def parts_of(page: Path) -> set[str]:
    """What links to the headings of a page say behind their #."""
    headings = [match["text"].lower() for match in HEADING.finditer(page.read_text("utf-8"))]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


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
