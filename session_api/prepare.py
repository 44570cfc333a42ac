"""``python -m session_api.prepare``: makes or upgrades the tables of every database, and ends.

A service does so itself when it starts. Where several are replaced one by one, it is done once before that, and a
database that cannot be prepared stops the replacement.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from session_api.databases import Databases
from session_api.serving import app_of, prepare_logs
from session_api.settings import settings_from
from unified_storage.errors import StorageError

log = logging.getLogger("session_api")


async def prepare(databases: Databases) -> None:
    """Open each of *databases*, which makes or upgrades its tables where they are ours, and close it.

    Raises:
        StorageError: one of them cannot be reached or prepared. Doing it again is safe.
    """
    for name, tables in databases.by_id.items():
        try:
            await tables.open()
            await tables.check()
        finally:
            await tables.close()
        log.info("database ready", extra={"database": name})


def main() -> None:
    """Prepare what the environment names; exit code 1 and one line where that fails."""
    prepare_logs()
    try:
        asyncio.run(prepare(app_of(settings_from(os.environ)).state.databases))
    except StorageError as error:
        sys.exit(f"session service: {error.message}")


if __name__ == "__main__":
    main()
