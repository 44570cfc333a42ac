"""One asynchronous storage for agent and chat sessions: records, logs and transactions on every engine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unified_storage.errors import (
    StorageAlreadyExistsError,
    StorageCapacityError,
    StorageClosedError,
    StorageConfigurationError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StorageMigrationError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageTransactionError,
    StorageUnsupportedError,
    StorageValidationError,
)
from unified_storage.findings import Finding
from unified_storage.interface import IUnifiedStorage, Page
from unified_storage.logs import log_id
from unified_storage.opening import backend_names, create_storage, open_storage, register_backend
from unified_storage.record import DELETE, REPLACE

if TYPE_CHECKING:
    from unified_storage.instances import RedisInstance, register_redis_instance
    from unified_storage.portal import Portal
    from unified_storage.transactions import Transaction

__all__ = [
    "DELETE",
    "REPLACE",
    "Finding",
    "IUnifiedStorage",
    "Page",
    "Portal",
    "RedisInstance",
    "StorageAlreadyExistsError",
    "StorageCapacityError",
    "StorageClosedError",
    "StorageConfigurationError",
    "StorageConflictError",
    "StorageConnectionError",
    "StorageError",
    "StorageIntegrityError",
    "StorageMigrationError",
    "StorageNotFoundError",
    "StoragePermissionError",
    "StorageTimeoutError",
    "StorageTransactionError",
    "StorageUnsupportedError",
    "StorageValidationError",
    "Transaction",
    "backend_names",
    "create_storage",
    "log_id",
    "open_storage",
    "register_backend",
    "register_redis_instance",
]

_LATE = {
    "Portal": "unified_storage.portal",
    "RedisInstance": "unified_storage.instances",
    "Transaction": "unified_storage.transactions",
    "register_redis_instance": "unified_storage.instances",
}
"""What few need, or what needs asyncio, half of what importing this package would cost: loaded when asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
