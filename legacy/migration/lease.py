"""One copy at a time into a storage: the system record ``_copy_run`` says who, and every step checks it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from unified_storage.errors import StorageError, StorageMigrationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.processes import has_ended, this_process

log = logging.getLogger(__name__)

TYPE = "_copy_run"
ID = "copy"
STALE_AFTER = timedelta(seconds=60)
"""Without a sign of life for so long, a run on another machine counts as ended."""
_SIGN_OF_LIFE_EVERY = 15.0


class AnotherRunError(StorageMigrationError):
    """Another copy is writing to the same target."""

    code = "STORAGE_ANOTHER_RUN_ERROR"


class Lease:
    """This run's right to write to *storage*.

    It is taken with the first step that writes, inside that step's transaction, so that a copy with nothing to write
    leaves no trace. A holder whose process has ended on this machine is followed at once; any other one after a minute
    without a sign of life. A holder that was followed notices at its next step, before it writes.
    """

    def __init__(self, storage: IUnifiedStorage) -> None:
        self._storage = storage
        self._token = uuid4().hex
        self._held = False
        self._to_clear = False

    async def check(self, storage: IUnifiedStorage) -> None:
        """Raise ``AnotherRunError`` when a living run other than this one holds the target."""
        found = await storage.load(ID, type=TYPE)
        if found is None or found["data"]["token"] == self._token:
            return
        if not self._is_over(found):
            process = found["data"]["process"]
            told = f"process {process['pid']} on {process['host']}"
            raise AnotherRunError(f"another copy is writing there ({told}); wait for it, then run this one again")
        self._to_clear = True

    async def hold(self, tx: IUnifiedStorage) -> None:
        """Take the right to write, or make sure that it is still ours, inside the step that is about to write.

        It is ours when the step was committed, of which :meth:`settled` is told.
        """
        await self.check(tx)
        mine = await tx.load(ID, type=TYPE)
        if mine is not None and mine["data"]["token"] == self._token:
            return
        if self._held:
            raise AnotherRunError("another copy took over while this one was silent; run it again")
        self._to_clear = True
        await tx.save({"id": ID, "type": TYPE, "data": {"token": self._token, "process": this_process()}})

    def settled(self) -> None:
        """The step that asked was committed."""
        self._held = True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While inside: signs of life. On leaving: what was taken, or left by a run that has ended, is given back."""
        heart = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            await self._give_back()

    def _is_over(self, found: dict[str, Any]) -> bool:
        silent = self._storage.clock() - found["updated_at"]
        return has_ended(found["data"]["process"]) or silent >= STALE_AFTER

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_EVERY)
            if self._held:
                with _told("no sign of life could be given"):
                    await self._sign_of_life()

    async def _sign_of_life(self) -> None:
        found = await self._storage.load(ID, type=TYPE)
        if found is not None and found["data"]["token"] == self._token:
            await self._storage.update(ID, {}, type=TYPE, expected_version=found["version"])

    async def _give_back(self) -> None:
        if not self._to_clear:
            return
        self._to_clear = self._held = False
        with _told("the right to write was not given back; it ends with this process"):
            found = await self._storage.load(ID, type=TYPE)
            if found is not None and (found["data"]["token"] == self._token or self._is_over(found)):
                await self._storage.delete(ID, type=TYPE, expected_version=found["version"])


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Log a failure of the storage that must not stand in the way of what is going on."""
    try:
        yield
    except StorageError as error:
        log.warning(what, extra={"error": error.to_dict()})
