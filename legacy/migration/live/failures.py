"""What a live migration raises beside the storage's own errors."""

from __future__ import annotations

from unified_storage.errors import StorageError, StorageMigrationError


class GateRefusedError(StorageMigrationError):
    """A change of phase was refused, and nothing was changed; ``details["reasons"]`` says why."""

    code = "STORAGE_GATE_REFUSED_ERROR"


class GuardStoppedError(StorageMigrationError):
    """Something looks too wrong to go on: a store that is suddenly empty, or one that was set back."""

    code = "STORAGE_GUARD_STOPPED_ERROR"


class EvictedError(StorageMigrationError):
    """This member was sent away from the migration and may not write; it joins anew when its program is restarted."""

    code = "STORAGE_MEMBER_EVICTED_ERROR"


class LegacyStoreError(StorageError):
    """The legacy store failed, or said that it did not do what it was asked."""

    code = "LEGACY_STORE_ERROR"


class AbsenceUnclearError(LegacyStoreError):
    """The legacy store says that a session is not there, and lists it: it may be written at this moment."""

    code = "LEGACY_ABSENCE_UNCLEAR_ERROR"


class WriteTakenOverError(StorageError):
    """This write was taken over by a recovery; whether it counts is decided there."""

    code = "STORAGE_WRITE_TAKEN_OVER_ERROR"


class SessionBusyError(StorageError):
    """Another write of the same session did not end in time."""

    code = "STORAGE_SESSION_BUSY_ERROR"
