"""Folders of session files for the tests of copying, and what a store holds, compared whole."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from unified_storage import open_storage
from unified_storage.interface import IUnifiedStorage

ROLES = ("HumanMessage", "AIMessage")


def document(id: str, *, messages: int = 2, text: str = "hello", **metadata: Any) -> dict[str, Any]:
    """A `SessionData` document as the old store wrote it, times in UTC."""
    return {
        "metadata": {
            "session_id": id,
            "status": "active",
            "created_at": "2024-05-15T16:37:00+00:00",
            "updated_at": "2024-05-15T17:00:00+00:00",
            **metadata,
        },
        "thread_configs": {},
        "workflow_state": {
            "messages": [
                {"type": ROLES[place % 2], "content": f"{text} {place}", "additional_kwargs": {}}
                for place in range(messages)
            ],
            "current_step": "s",
        },
        "settings": {"n": 1},
    }


def write(folder: Path, document: dict[str, Any], name: str | None = None) -> Path:
    """Put *document* into *folder* as the old store did."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (name or f"{document['metadata']['session_id']}.json")
    file.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
    return file


def write_many(folder: Path, count: int) -> None:
    for number in range(count):
        write(folder, document(f"flow-240515-{number:06d}", messages=6, text=f"{number} " + "x" * 80))


def parsed(folder: Path) -> dict[str, Any]:
    """Every session file of a folder, by name."""
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}


def listing(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything in a folder, with bytes and times, to see that nothing of it changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found


def left_with_journal(database: Path) -> list[Path]:
    """A store of ours as a killed writer leaves it: its files, the journal with a commit of its own beside it."""
    holding = sqlite3.connect(database, isolation_level=None)
    holding.execute("PRAGMA wal_autocheckpoint = 0")
    holding.execute("UPDATE unified_records SET version = version + 1")
    files = [database, *(database.with_name(database.name + end) for end in ("-wal", "-shm"))]
    kept = [file.read_bytes() for file in files]
    holding.close()
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    return files


async def contents(storage: IUnifiedStorage) -> dict[str, Any]:
    """Everything a store holds, system records and logs included, with versions and times."""
    records = [*await storage.list(), *await storage.list({"type": {"$in": ["_copy", "_copy_run"]}})]
    logs = {id: await storage.read(id) async for ids in storage.logs() for id in ids}
    return {
        "records": {(record["id"], record["type"]): record for record in records},
        "logs": {id: (await storage.log_info(id), entries) for id, entries in logs.items()},
    }


async def contents_of(url: str) -> dict[str, Any]:
    async with open_storage(url) as storage:
        return await contents(storage)


if __name__ == "__main__":  # for tests that measure or kill another process
    write_many(Path(sys.argv[1]), int(sys.argv[2]))
