"""The guard against a source that lost much at once: that is a fault more often than it is meant."""

from __future__ import annotations

from unified_storage.errors import StorageMigrationError

AT_MOST = 100
"""So many may vanish at once."""
ONE_IN = 100
"""And of these no more than one in so many, but one may always."""


class MassChangeError(StorageMigrationError):
    """More has vanished at once than anybody deletes."""

    code = "STORAGE_MASS_CHANGE_ERROR"


def check_mass_change(vanished: int, known: int, *, meant: int | None) -> None:
    """Raise ``MassChangeError`` where too many have vanished at once, or all.

    Args:
        vanished: how many are not there any more.
        known: of so many.
        meant: so many are meant to; None leaves it to the guard.
    """
    allowed = max(1, min(AT_MOST, known // ONE_IN)) if meant is None else meant
    if vanished <= allowed and (vanished < known or meant is not None):
        return
    which = f"all {vanished}" if vanished == known else f"{vanished} of {known}"
    raise MassChangeError(
        f"{which} records have vanished from the source at once, more than the {allowed} that may, so nothing was"
        f" deleted: see that it is whole; if that is meant, say --delete --max-delete {vanished}",
        details={"vanished": vanished, "known": known, "allowed": allowed},
    )
