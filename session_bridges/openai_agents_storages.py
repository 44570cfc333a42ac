"""The storages that sessions open by URL: one for all of the same URL, since a program makes a session a request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from weakref import WeakSet

from unified_storage import open_storage
from unified_storage.interface import IUnifiedStorage


@dataclass
class _Opened:
    storage: IUnifiedStorage
    users: WeakSet[object] = field(default_factory=WeakSet)


class SharedStorages:
    """Storages by URL, each open until the last of those who took it gives it back.

    Who is forgotten without giving back does not count any more, but closes nothing either.
    """

    def __init__(self) -> None:
        self._opened: dict[str, _Opened] = {}
        self._lock = threading.Lock()

    def taken(self, url: str, user: object) -> IUnifiedStorage:
        """The storage of *url*, for *user*."""
        with self._lock:
            if url not in self._opened:
                self._opened[url] = _Opened(open_storage(url))
            self._opened[url].users.add(user)
            return self._opened[url].storage

    async def given_back(self, url: str, user: object) -> None:
        """*user* is done with the storage of *url*; nothing happens where it has said so already."""
        with self._lock:
            opened = self._opened.get(url)
            if opened is None or user not in opened.users:
                return
            opened.users.remove(user)
            if opened.users:
                return
            del self._opened[url]
        await opened.storage.close()


SHARED = SharedStorages()
"""Those of this process."""
