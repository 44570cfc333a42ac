"""Stores that the real libraries wrote, brought to where their readers look for them."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import redis

from tests.support import fixtures_folder

PEERS = "peers"
FAMILIES = {
    "agno1": "agno",
    "agno2": "agno",
    "agno2_upgraded": "agno",
    "agno3": "agno",
    "adk_sqlite": "adk",
    "adk_v0_1_3": "adk",
    "adk_v0_1_21": "adk",
    "adk_v1": "adk",
    "openai_advanced": "openai-agents",
    "openai_encrypted": "openai-agents",
    "openai_redis": "openai-agents",
    "openai_sqlalchemy": "openai-agents",
    "openai_sqlite": "openai-agents",
    "langchain_file": "langchain",
    "langchain_redis": "langchain",
    "langchain_sql": "langchain",
    "langgraph_sqlite": "langgraph",
    "trpc_hashidx": "trpc-agent",
    "trpc_hashidx_prefix": "trpc-agent",
    "trpc_zset": "trpc-agent",
    "agnogo_postgres": "agno-go",
    "agnogo_sqlite": "agno-go",
}
"""Fixture store -> the word before the + of its URL."""
READ = (
    "agno1",
    "agno2",
    "agno2_upgraded",
    "agno3",
    "agnogo_postgres",
    "agnogo_sqlite",
    "langchain_sql",
    "langchain_redis",
    "langchain_file",
    "langgraph_sqlite",
    "adk_v1",
    "adk_sqlite",
    "adk_v0_1_3",
    "adk_v0_1_21",
    "trpc_hashidx",
    "trpc_hashidx_prefix",
    "trpc_zset",
    "openai_sqlite",
    "openai_sqlalchemy",
    "openai_advanced",
    "openai_redis",
    "openai_encrypted",
)
"""The stores that something here reads."""


@dataclass(frozen=True)
class FixtureStore:
    """One of the stores; its folder is looked for when it is used."""

    name: str

    @cached_property
    def folder(self) -> Path:
        return fixtures_folder() / PEERS / self.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "MANIFEST.json").read_text(encoding="utf-8"))
        return found

    @property
    def family(self) -> str:
        return FAMILIES[self.name]

    @property
    def lives_on(self) -> str:
        """``sqlite``, ``redis``, ``postgresql`` or ``file``."""
        names = {path.name for path in self.folder.iterdir()}
        if "dump.json" in names:
            return "redis"
        if "histories" in names:
            return "file"
        return "postgresql" if any(name.endswith(".jsonl") for name in names) else "sqlite"

    @cached_property
    def conversations(self) -> dict[str, dict[str, Any]]:
        """By session id."""
        return {one["session_id"]: one for one in self.manifest["conversations"]}

    def database(self) -> Path:
        (file,) = self.folder.glob("*.db")
        return file

    def copied_to(self, folder: Path) -> Path:
        """The SQLite file, or the folder of files, copied to *folder*."""
        if self.lives_on == "file":
            return Path(shutil.copytree(self.folder / "histories", folder / "histories"))
        return Path(shutil.copy(self.database(), folder))

    def dump(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "dump.json").read_text(encoding="utf-8"))
        return found


def load_dump(client: redis.Redis, dump: Iterable[dict[str, Any]]) -> None:
    """Write the keys of a dump to an empty Redis."""
    for item in dump:
        key, value = item["key"], item["value"]
        match item["type"]:
            case "string":
                client.set(key, _bytes(value))
            case "hash":
                client.hset(key, mapping={name: _bytes(text) for name, text in value.items()})
            case "list":
                client.rpush(key, *map(_bytes, value))
            case "set":
                client.sadd(key, *map(_bytes, value))
            case "zset":
                client.zadd(key, {_bytes(member): float(score) for member, score in value})
        if item["ttl_ms"] > 0:
            client.pexpire(key, item["ttl_ms"])


def dumped(client: Any) -> dict[str, tuple[str, Any]]:
    """Every key of a Redis with its type and value, as they are compared: without time to live."""
    found: dict[str, tuple[str, Any]] = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key).decode()
        reads = {
            "string": lambda key=key: client.get(key),
            "hash": lambda key=key: client.hgetall(key),
            "list": lambda key=key: client.lrange(key, 0, -1),
            "set": lambda key=key: client.smembers(key),
            "zset": lambda key=key: client.zrange(key, 0, -1, withscores=True),
        }
        found[key.decode()] = (kind, reads[kind]())
    return found


def _bytes(value: str) -> bytes:
    return base64.b64decode(value[4:]) if value.startswith("b64:") else value.encode()


def canonical() -> ModuleType:
    """The fixtures' own way to hash a conversation."""
    spec = importlib.util.spec_from_file_location("fixture_canonical", fixtures_folder() / "canonical.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
