"""Storages in front of a storage: each adds one thing and passes every verb on."""

from unified_storage.layers.cache import Cache
from unified_storage.layers.metrics import Metrics

__all__ = ["Cache", "Metrics"]
