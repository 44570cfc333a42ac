"""The example program of summaries does what it says."""

from __future__ import annotations

from pathlib import Path

from tests.session_adapter.workflow.test_examples import run


def test_a_prompt_is_the_summary_and_what_was_said_since(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bakery.db"
    assert run("sum_up.py", url) == ["They said 2 things. ['And now?']"]
    assert run("sum_up.py", url) == ["They said 5 things. ['And now?']"]
