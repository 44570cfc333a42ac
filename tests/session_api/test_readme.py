"""The request that the first page shows has the answer that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

from legacy.migration import copy_store
from tests.session_api.clients import client_of, database
from tests.support import REPOSITORY
from unified_storage import open_storage

_SHOWN = re.compile(r"curl 'http://127\.0\.0\.1:8080(?P<path>[^']+)'\n```\n\n```json\n(?P<answer>.*?)```", re.DOTALL)


async def test_the_readme_shows_a_real_answer(tmp_path: Path):
    shown = _SHOWN.search((REPOSITORY / "README.md").read_text("utf-8"))
    assert shown is not None
    url = f"sqlite:///{tmp_path}/sessions.db"
    copied = await copy_store(str(REPOSITORY / "examples" / "sessions"), url, source_timezone="UTC")
    copied.close()
    async with client_of(database(open_storage(url))) as client:
        answer = await client.get(shown["path"])
    assert answer.json() == json.loads(shown["answer"])
