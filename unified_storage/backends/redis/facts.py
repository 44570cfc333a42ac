"""What Redis servers say of themselves: version, and how much a crash may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unified_storage.errors import StorageConfigurationError

ASKED = (("INFO", "server"), ("INFO", "memory"), ("INFO", "persistence"), ("CONFIG", "GET", "appendfsync"))
_OLDEST = (7, 0)
_SYNCED = {"always": "full", "everysec": "every second", "no": "none"}
_STRENGTH = ("none", "unknown", "every second", "full")


def parsed_info(answer: bytes) -> dict[str, str]:
    """The ``name:value`` lines of an INFO answer."""
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def check_version(server: Mapping[str, str]) -> None:
    """Raise ``StorageConfigurationError`` for a server that is too old; one that does not say is taken as it is."""
    version = server.get("redis_version", "")
    numbers = version.split(".")[:2]
    if all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) < _OLDEST:
        raise StorageConfigurationError(f"Redis {version} is too old: 7.0 is needed")


def described(answers: Sequence[Sequence[Any]], mode: str) -> dict[str, Any]:
    """The facts of all masters together, each of which was ``ASKED``: of what they promise, the weakest."""
    infos = [{**_info(server), **_info(memory), **_info(disk)} for server, memory, disk, _ in answers]
    synced = [_durability(info, answer[-1]) for info, answer in zip(infos, answers, strict=True)]
    evictions = {info.get("maxmemory_policy", "unknown") for info in infos}
    facts: dict[str, Any] = {
        "version": infos[0].get("valkey_version") or infos[0].get("redis_version", "unknown"),
        "mode": mode,
        "masters": len(infos),
        "durability": min(synced, key=_STRENGTH.index),
        "eviction": next(iter(evictions - {"noeviction", "unknown"}), min(evictions)),
    }
    if evictions - {"noeviction", "unknown"}:
        facts["warning"] = f"maxmemory-policy {facts['eviction']}: the server may drop what was stored without a word"
    return facts


def _info(answer: Any) -> dict[str, str]:
    return parsed_info(answer) if isinstance(answer, bytes) else {}


def _durability(info: Mapping[str, str], configured: Any) -> str:
    """What a crash of one server may cost, as it is set; ``unknown`` where CONFIG is forbidden."""
    if info.get("aof_enabled") == "0":
        return "none"
    if not isinstance(configured, list) or len(configured) != 2:
        return "unknown"
    return _SYNCED.get(configured[1].decode(), "unknown")
