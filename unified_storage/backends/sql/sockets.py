"""Closing a socket whose event loop is closed or stands still, and looking whether something has come on one."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import Any


def sever(transport: asyncio.BaseTransport) -> None:
    """Close a transport's socket here and now; only for one whose loop does not run.

    ``transport.abort()`` merely asks the loop to do it, and a loop that stands still never does: the server would keep
    the connection, with its locks, as long as this process lives.
    """
    inner: Any = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    loop, close = getattr(inner, "_loop", None), getattr(inner, "_call_connection_lost", None)
    if loop is None or close is None:  # closed before, or a transport of another kind of loop
        with contextlib.suppress(RuntimeError):
            transport.abort()  # type: ignore[attr-defined]  # every transport with a socket has it
        return
    descriptor = inner.get_extra_info("socket").fileno()
    loop._remove_reader(descriptor)
    loop._remove_writer(descriptor)
    with contextlib.suppress(RuntimeError):  # whoever still waits on a closed loop cannot be told
        close(None)


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether something has come that its loop had no turn to read, the end of the connection included."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
