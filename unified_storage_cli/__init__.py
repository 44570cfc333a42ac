"""The command ``unified-storage``: copies, verifies and looks into places where sessions are. One file a command."""

from unified_storage_cli.app import main

__all__ = ["main"]
