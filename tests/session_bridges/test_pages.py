"""The pages and the examples about other frameworks do what they say, where these are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.code_blocks import Reader
from tests.docs.test_code_blocks import PAGES, READ_HERE, check_blocks
from tests.session_adapter.workflow.test_examples import run

ELSEWHERE = [page for page in PAGES if page not in READ_HERE]


@pytest.mark.filterwarnings("default")  # what the frameworks warn of is theirs
@pytest.mark.parametrize("page", ELSEWHERE, ids=[page.name for page in ELSEWHERE])
def test_every_code_block_does_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with Reader(tmp_path) as reader:
        check_blocks(page, reader, with_servers=set())


def test_an_agent_remembers_what_was_said_to_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/app.db"
    first = "You have said {} things, the first was 'Two rye loaves, please'"
    assert run("bridge_openai_agents.py", url) == [first.format(1), first.format(2)]
    assert run("bridge_openai_agents.py", url) == [first.format(3), first.format(4)]


def test_a_client_goes_on_at_the_next_server():
    assert run("bridge_key_value.py") == ["['tea']", "['tea', 'milk']"]


def test_an_agent_of_adk_remembers_what_was_said_to_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/app.db"
    first = "You have said {} things, the first was 'Two rye loaves, please'"
    assert run("bridge_adk.py", url) == [first.format(1), first.format(2)]
    assert run("bridge_adk.py", url) == [first.format(3), first.format(4)]
