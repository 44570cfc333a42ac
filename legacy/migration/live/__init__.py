"""Live migration: a legacy store moves into a unified storage while the programs that use it keep running."""

from legacy.migration.live.service import MigratingSessionService

__all__ = ["MigratingSessionService"]
