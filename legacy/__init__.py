"""The old synchronous session interface, its stores, and the way from them to the new storage."""

from legacy.adapter import LegacySessionStoreAdapter
from legacy.file_store import FileSessionStore
from legacy.memory_store import MemorySessionStore
from legacy.store import ISessionStore

__all__ = ["FileSessionStore", "ISessionStore", "LegacySessionStoreAdapter", "MemorySessionStore"]
