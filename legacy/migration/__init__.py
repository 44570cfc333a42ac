"""Moving sessions from one place to another: copy, verify, and looking a store over."""

from legacy.migration.copy import Progress, copy_store
from legacy.migration.doctor import DoctorReport, check_storage, examine, repair
from legacy.migration.exit_codes import exit_code_of
from legacy.migration.following import Following, FollowReport, Pass, follow_store
from legacy.migration.guard import MassChangeError
from legacy.migration.inspecting import PlaceFacts, inspect_place, inspect_session
from legacy.migration.lease import AnotherRunError
from legacy.migration.ledger import Ledger
from legacy.migration.report import CopyReport
from legacy.migration.verify import VerifyReport, verify_stores
from unified_storage.findings import Finding

__all__ = [
    "AnotherRunError",
    "CopyReport",
    "DoctorReport",
    "Finding",
    "FollowReport",
    "Following",
    "Ledger",
    "MassChangeError",
    "Pass",
    "PlaceFacts",
    "Progress",
    "VerifyReport",
    "check_storage",
    "copy_store",
    "examine",
    "exit_code_of",
    "follow_store",
    "inspect_place",
    "inspect_session",
    "repair",
    "verify_stores",
]
