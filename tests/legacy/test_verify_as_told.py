"""`verify` against places that remember nothing: the copy's zone and conversion are told again."""

from pathlib import Path
from typing import Any

import pytest

from tests.legacy.folders import write
from tests.legacy.test_copy import copied, counts
from tests.legacy.test_verify import kinds, verified
from unified_storage import StorageConfigurationError, StorageValidationError

ZONE = "Asia/Tokyo"
NAIVE = "2024-05-01T00:00:00"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with a session in the older shape, its times without an offset."""
    document: dict[str, Any] = {
        "metadata": {"session_id": "s1", "created_at": NAIVE, "updated_at": NAIVE, "status": "active"},
        "state": {"messages": [{"type": "HumanMessage", "content": "x"}]},
        "workflow_config": {},
    }
    write(tmp_path / "older", document)
    return tmp_path / "older"


async def test_an_archive_is_compared_in_the_zone_that_is_told_again(older: Path, tmp_path: Path) -> None:
    archive = f"jsonl://{tmp_path}/archive.jsonl"
    await copied(older, archive, source_timezone=ZONE)
    facts = await verified(older, archive, source_timezone=ZONE)
    assert (facts["equal"], facts["exit_code"]) == (1, 0)
    assert "created_at" in kinds(await verified(older, archive, source_timezone="UTC"))["s1"]


@pytest.mark.parametrize("target", ["jsonl://{}/archive.jsonl", "legacy+file://{}/files"])
async def test_converted_documents_are_compared_where_the_conversion_is_told_again(
    older: Path, tmp_path: Path, target: str
) -> None:
    url = target.format(tmp_path)
    told = {"source_timezone": ZONE, "convert": "session-data"}
    assert counts(await copied(older, url, **told), "copied", "verified") == (1, 1)
    assert (await verified(older, url, **told))["equal"] == 1
    assert (await verified(older, url, source_timezone=ZONE))["different"] == 1


async def test_a_conversion_is_refused_where_it_means_nothing(older: Path, tmp_path: Path) -> None:
    first, second = f"jsonl://{tmp_path}/one.jsonl", f"jsonl://{tmp_path}/two.jsonl"
    await copied(older, first)
    await copied(older, second)
    with pytest.raises(StorageConfigurationError, match="converted"):
        await verified(first, second, convert="session-data")
    with pytest.raises(StorageValidationError, match="convert"):
        await verified(older, second, convert="other")
