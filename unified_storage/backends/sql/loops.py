"""What is kept for each event loop."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary


def forget_closed_loops(by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what belongs to loops that are closed: a timer or a task in it would keep its loop alive."""
    for reference in by_loop.keyrefs():  # made in one go, while other threads may add theirs
        loop = reference()
        if loop is not None and loop.is_closed():
            by_loop.pop(loop, None)
