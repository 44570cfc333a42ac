"""Named instances: one client, given a name, that any number of storages use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from unified_storage.errors import StorageConfigurationError
from unified_storage.opening import StorageURL, imported, parse_url, refuse_unknown

_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")
_OF_STORAGES = {"namespace"}
"""Options that each storage on an instance may set for itself; those of the instance are what it has otherwise."""


class _Client(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RedisInstance:
    """A client with a name; whoever registered it closes it, which also frees the name."""

    name: str
    url: StorageURL = field(repr=False)
    client: _Client = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    """What storages on it are opened with, if they do not say otherwise."""

    async def close(self) -> None:
        """End its connections. Storages that still use it raise ``StorageClosedError`` from now on."""
        if _instances.get(self.name) is self:
            _instances.pop(self.name, None)
        await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_instances: dict[str, RedisInstance] = {}
"""By name. Without a lock, which a forked child might find held: every use of it is one step."""


def register_redis_instance(name: str, *, url: str, **options: Any) -> RedisInstance:
    """Give a Redis client a name, by which ``open_storage(instance_name=name)`` finds it; it connects on first use.

    Closing a storage leaves the client open for the others: close what this returns, or use it in ``async with``.

    Raises:
        StorageConfigurationError: the name is taken, the URL is not one of Redis, or an option is unknown.
    """
    parsed = parse_url(url)
    if parsed.scheme not in _SCHEMES:
        raise StorageConfigurationError(f"{parsed.scheme}:// cannot be a Redis instance: write redis://host:6379/0")
    given = {**parsed.options, **options}
    client = imported(parsed.scheme, "unified_storage.backends.redis.client", "opened_client", "redis")(parsed, given)
    refuse_unknown({option: given[option] for option in given.keys() - _OF_STORAGES}, parsed.scheme)
    instance = RedisInstance(name, parsed, client, given)
    if _instances.setdefault(name, instance) is not instance:
        raise StorageConfigurationError(f"a Redis instance {name!r} is registered already")
    return instance


def named_instance(name: str) -> RedisInstance:
    """The instance of that name, or ``StorageConfigurationError`` naming those there are."""
    instance = _instances.get(name)
    if instance is not None:
        return instance
    known = sorted([*_instances])
    raise StorageConfigurationError(
        f"no instance {name!r} is registered; known: {', '.join(known) or 'none'}", details={"known": known}
    )
