"""The systems that are measured, imported when they are asked for.

A module of ``PEERS`` has a list ``SYSTEMS`` of its :class:`benchmarks.system.System` classes; their ``name`` is what
``--systems`` takes.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from benchmarks.system import System

ENGINES = ("sqlite", "postgresql", "mysql", "redis")
OURS = ("raw", "ours", "ours (sessions)", "ours (scoped)")
"""What needs no package beyond the drivers."""
_MODULES = {
    ("raw", "sqlite"): "raw_sqlite",
    ("raw", "postgresql"): "raw_postgresql",
    ("raw", "mysql"): "raw_mysql",
    ("raw", "redis"): "raw_redis",
    **{("ours", engine): "ours" for engine in ENGINES},
    **{("ours (sessions)", engine): "ours_sessions" for engine in ENGINES},
    **{("ours (scoped)", engine): "ours_scoped" for engine in ENGINES},
}
PEERS = {  # module of this package: what has to be installed for it
    "agno": "agno",
    "adk": "google-adk",
    "openai_agents": "openai-agents",
    "langgraph": "langgraph",
}


class MissingSystem(Exception):
    """A system cannot be measured here; the message says why."""


def system_of(name: str, engine: str) -> type[System]:
    """The class of one system on one engine.

    Raises:
        MissingSystem: there is none of this name, it does not run on this engine, or its package is not installed.
    """
    if name in OURS:
        return _classes(_MODULES[name, engine])[0]
    for module in PEERS:
        if name.partition(" ")[0].replace("-", "_") == module:
            return _peer(name, module, engine)
    raise MissingSystem(f"there is no system {name!r}; there are {', '.join([*OURS, *PEERS])}")


def names_of(asked: str, engine: str) -> tuple[list[str], list[str]]:
    """The systems of an engine that *asked* means, and why others cannot be had.

    Args:
        asked: ``all``, or names with commas between; the word before a bracket means all that begin with it
            (``agno`` is ``agno`` and ``agno (sync)``), except that ``ours`` is the storage alone.
    """
    words = [*OURS, *PEERS] if asked == "all" else [word.strip() for word in asked.split(",")]
    names: list[str] = []
    missing: list[str] = []
    for word in words:
        try:
            names += [word] if word in OURS else _variants(word, engine)
        except MissingSystem as reason:
            missing.append(str(reason))
    return names, missing


def _variants(word: str, engine: str) -> list[str]:
    module = word.partition(" ")[0].replace("-", "_")
    if module not in PEERS:
        raise MissingSystem(f"there is no system {word!r}; there are {', '.join([*OURS, *PEERS])}")
    found = [system.name for system in _peers(module) if engine in system.engines]
    return [name for name in found if name == word or " " not in word]


def _peer(name: str, module: str, engine: str) -> type[System]:
    for system in _peers(module):
        if system.name == name and engine in system.engines:
            return system
    raise MissingSystem(f"{name} does not run on {engine}")


def _peers(module: str) -> list[type[System]]:
    if find_spec(f"benchmarks.systems.{module}") is None:
        raise MissingSystem(f"{module} is not written yet")
    try:
        return _classes(module)
    except ModuleNotFoundError as error:
        message = f"{PEERS[module]} is not installed ({error.name} is missing): `make bench` makes its environment"
        raise MissingSystem(message) from error


def _classes(module: str) -> list[type[System]]:
    classes: list[type[System]] = import_module(f"benchmarks.systems.{module}").SYSTEMS
    return classes
