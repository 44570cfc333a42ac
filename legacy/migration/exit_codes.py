"""The exit codes of commands that copy, verify and look after stores."""

from __future__ import annotations

import asyncio

from legacy.migration.guard import MassChangeError
from legacy.migration.lease import AnotherRunError
from legacy.migration.live.failures import GateRefusedError, GuardStoppedError
from unified_storage.errors import (
    StorageConfigurationError,
    StorageError,
    StorageUnsupportedError,
    StorageValidationError,
)

DONE = 0
USAGE = 1
GATE_REFUSED = 2
TO_LOOK_AT = 3
"""Done, with quarantine, conflicts, mismatches or other findings."""
STORE_ERROR = 4
"""Running the same again goes on where it stopped."""
HELD = 5
"""Another run is writing there."""
GUARD_STOPPED = 6
INTERRUPTED = 130


def exit_code_of(error: BaseException) -> int | None:
    """The exit code that tells *error*; None for one that no command foresees."""
    if isinstance(error, AnotherRunError):
        return HELD
    if isinstance(error, GateRefusedError):
        return GATE_REFUSED
    if isinstance(error, GuardStoppedError):
        return GUARD_STOPPED
    if isinstance(error, MassChangeError):
        return GUARD_STOPPED
    if isinstance(error, StorageConfigurationError | StorageValidationError | StorageUnsupportedError):
        return USAGE
    if isinstance(error, StorageError | OSError):
        return STORE_ERROR
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return INTERRUPTED
    return None
