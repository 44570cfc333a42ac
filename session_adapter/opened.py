"""The storage that a service works on: one that it is given, or one that it opens and then has to close."""

from __future__ import annotations

from typing import Any

from unified_storage.errors import StorageConfigurationError
from unified_storage.interface import IUnifiedStorage
from unified_storage.opening import open_storage

ALIASES = {
    "url": "storage",
    "redis_url": "storage",
    "instance": "instance_name",
    "redis_instance": "instance_name",
    "redis_instance_name": "instance_name",
}
"""Other spellings of the two arguments that name a storage."""


def storage_for(
    storage: IUnifiedStorage | str | None, instance_name: str | None, options: dict[str, Any]
) -> tuple[IUnifiedStorage, bool]:
    """The storage, and whether whoever asked has to close it.

    Args:
        storage: an open one, or a URL, which wins over *instance_name*; without both it is one in memory.
        options: those of ``open_storage``, and the :data:`ALIASES`, which count where the argument itself is None.
    Raises:
        StorageConfigurationError: options for a storage that is open already, or as ``open_storage`` does.
    """
    given: dict[str, Any] = {"storage": storage, "instance_name": instance_name}
    for alias, name in ALIASES.items():
        found = options.pop(alias, None)
        given[name] = found if given[name] is None else given[name]
    storage, instance_name = given["storage"], given["instance_name"]
    if isinstance(storage, IUnifiedStorage):
        if options:
            message = "an open storage takes no options; give them to open_storage"
            raise StorageConfigurationError(message, details={"options": sorted(options)})
        return storage, False
    if storage is None and instance_name is None:
        storage = "memory://"
    if storage is not None and not isinstance(storage, str):
        raise StorageConfigurationError(f"a storage or a URL is wanted, not {type(storage).__name__}")
    return open_storage(storage, instance_name=instance_name, **options), True
