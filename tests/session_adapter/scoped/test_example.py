"""The example program of scoped sessions does what it says."""

from __future__ import annotations

from pathlib import Path

from tests.session_adapter.workflow.test_examples import run


def test_the_shop_remembers_its_customers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assert run("scoped_sessions.py", url) == [
        "ann {'cart': ['tea', 'milk'], 'app:visits': 3, 'user:visits': 2} milk, please",
        "bob {'cart': ['rye'], 'app:visits': 3, 'user:visits': 1} rye, please",
    ]
    assert run("scoped_sessions.py", url)[1] == (
        "bob {'cart': ['rye', 'rye'], 'app:visits': 6, 'user:visits': 2} rye, please"
    )
