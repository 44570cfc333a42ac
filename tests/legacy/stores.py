"""The stores of the old interface that the tests run over."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from legacy import FileSessionStore, LegacySessionStoreAdapter, MemorySessionStore

STORES = ["file", "memory", "adapter over memory", "adapter over sqlite"]
Opened = FileSessionStore | MemorySessionStore | LegacySessionStoreAdapter


@contextmanager
def opened_store(name: str, folder: Path, **settings: Any) -> Iterator[Opened]:
    """The store called *name*, which keeps its files in *folder*; closed at the end."""
    if name == "file":
        yield FileSessionStore(folder / "sessions", **settings)
    elif name == "memory":
        yield MemorySessionStore(**settings)
    else:
        url = "memory://" if name.endswith("memory") else f"sqlite:///{folder}/sessions.db"
        with LegacySessionStoreAdapter(url, **settings) as store:
            yield store
