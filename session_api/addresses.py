"""Who is at the other end: proxies that are trusted may say it, nobody else. ASGI."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

Networks = tuple[IPv4Network | IPv6Network, ...]


class ForwardedAddresses:
    """Takes the client's address from ``X-Forwarded-For`` where the peer is a trusted proxy.

    The header is read from its end, which the nearest proxy wrote: the first address that is no trusted proxy's is the
    client's. What stands before it anybody may have written.
    """

    def __init__(self, app: ASGIApp, trusted: Networks) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if scope["type"] == "http" and peer and self._is_trusted(_address(peer[0])):
            scope["client"] = (self._forwarded(_written(scope["headers"]), peer[0]), 0)
        await self._app(scope, receive, send)

    def _forwarded(self, written: list[str], nearest: str) -> str:
        for text in reversed(written):
            address = _address(text)
            if address is None:
                break
            nearest = str(address)
            if not self._is_trusted(address):
                break
        return nearest

    def _is_trusted(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _written(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [text.strip() for line in lines for text in line.split(",")]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in *text*, with or without a port; None where there is none."""
    bare = text[1 : text.find("]")] if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
