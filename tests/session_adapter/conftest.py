"""What tests of sessions share: the clean legacy files, and the hash of a conversation."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from session_adapter import SessionStorageAdapter
from tests.places import EMBEDDED, SERVERS, engines, place_on
from unified_storage import IUnifiedStorage


@pytest.fixture(scope="session")
def canon_sha(fixtures_dir: Path) -> Callable[[list[Any]], str]:
    """Flat events -> sha256 over the canonical conversation."""
    path = fixtures_dir / "canonical.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[list[Any]], str] = module.canon_sha
    return function


@pytest.fixture(scope="session")
def clean(fixtures_dir: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(its part of the manifest, the parsed document) of each of the 60 files."""
    manifest = json.loads((fixtures_dir / "legacy_files.MANIFEST.json").read_text(encoding="utf-8"))
    folder = fixtures_dir / "legacy_files"
    files = [(case, json.loads((folder / case["file"]).read_text(encoding="utf-8"))) for case in manifest["files"]]
    assert len(files) == 60
    return files


@pytest.fixture(params=engines(*EMBEDDED, *(name for name in SERVERS if name != "redis-cluster")))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IUnifiedStorage]:
    """An empty storage on every engine that can save any sessions together; a cluster does so within a partition."""
    async with place_on(request.param, tmp_path) as place, place.open() as opened:
        yield opened


@pytest.fixture
def sessions(storage: IUnifiedStorage) -> SessionStorageAdapter:
    return SessionStorageAdapter(storage)
