"""Named places in the protocol, where tests stop, kill or delay a process."""

from __future__ import annotations

from collections.abc import Callable

Hook = Callable[[str], None]

_hook: Hook | None = None


def at(step: str) -> None:
    """The program has come to *step*, such as ``write:intent-taken``; nothing happens unless a test has asked."""
    if _hook is not None:
        _hook(step)


def set_hook(hook: Hook | None) -> None:
    """Call *hook* at every step of this process; None for nothing."""
    global _hook  # one for the process, as kill -9 is
    _hook = hook
