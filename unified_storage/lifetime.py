"""The lifetime of a storage: opened by whoever uses it first, closed once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from unified_storage.errors import StorageClosedError
from unified_storage.transactions import Holders, to_the_end
from unified_storage.turns import Turns

Begin = Callable[[], Awaitable[None]]


class Lifetime:
    """Opens a storage once, however many tasks of whichever event loops and threads ask for it.

    Args:
        let_go: releases what was taken for an opening that failed.
        end: releases everything, for good.
        timeout: seconds to wait for somebody else who is opening it.
    """

    def __init__(
        self, *, let_go: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]], timeout: float
    ) -> None:
        self.holders = Holders()
        self._let_go = let_go
        self._end = end
        self._timeout = timeout
        self._opening = Turns()
        self._is_open = False
        self._is_closed = False

    async def ready(self, begin: Begin) -> None:
        """Open it for a verb of its own, which a task that holds a transaction of it may not call.

        Args:
            begin: as of :meth:`open`.
        """
        self.holders.check()
        if not self._is_open or self._is_closed:
            await self.open(begin)

    async def open(self, begin: Begin) -> None:
        """Open it, unless it is open.

        Args:
            begin: what that takes; when it fails, the next one who asks tries again.
        Raises:
            StorageClosedError: after :meth:`close`.
        """
        self._check_not_closed()
        if self._is_open:
            return
        await self._opening.take(self._timeout)
        try:
            self._check_not_closed()
            if not self._is_open:
                await begin()
                self._is_open = True
        except BaseException:
            await self._let_go()  # whoever could not open it does not know that there is something to close
            raise
        finally:
            self._opening.leave()

    def _check_not_closed(self) -> None:
        if self._is_closed:
            raise StorageClosedError("this storage was closed")

    async def close(self) -> None:
        """Close it; refused to a task that holds a transaction of it, and nothing when it was closed before."""
        self.holders.check()
        if not self._is_closed:
            self._is_closed = True
            await to_the_end(self._end())  # nobody could close it a second time
