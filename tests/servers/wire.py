"""The first words with a server over its own protocol: enough to know that it answers, and which version it is."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO


class Refused(OSError):
    """The server answers, and says no: as while it starts."""


def postgresql_version(port: int) -> str:
    """The version, once a login as `postgres` without a password is through."""
    with _connected(port) as (connection, reader):
        words = b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack("!ii", len(words) + 8, 3 << 16) + words)
        settings: dict[bytes, bytes] = {}
        while True:
            kind, length = struct.unpack("!ci", _read(reader, 5))
            body = _read(reader, length - 4)
            if kind == b"E":
                raise Refused(body.replace(b"\0", b" ").decode(errors="replace"))
            if kind == b"S":
                name, value = body.split(b"\0")[:2]
                settings[name] = value
            if kind == b"Z":
                return settings[b"server_version"].decode().split(" ")[0]


def mysql_version(port: int) -> str:
    """The version out of the greeting, which a server sends when it takes connections."""
    with _connected(port) as (_, reader):
        length = int.from_bytes(_read(reader, 4)[:3], "little")
        body = _read(reader, length)
    if body[0] != 10:  # 255 is an error: its number, then its text
        raise Refused(body[3:].decode(errors="replace"))
    text = body[1 : body.index(0, 1)].decode()
    number, _, kind = text.removeprefix("5.5.5-").partition("-")  # what MariaDB says to old replicas
    return f"MariaDB {number}" if kind.startswith("MariaDB") else number


def redis_version(port: int) -> str:
    """The version, with its name where it is Valkey."""
    lines = redis_call(port, "INFO", "server").decode().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else facts["redis_version"]


def redis_call(port: int, *words: str | int) -> Any:
    """One command on a connection of its own; errors of the server are raised as `Refused`."""
    with _connected(port) as (connection, reader):
        parts = [str(word).encode() for word in words]
        connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return _redis_answer(reader)


def _redis_answer(reader: BinaryIO) -> Any:
    line = reader.readline()
    if not line.endswith(b"\r\n"):
        raise Refused("the connection was closed")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise Refused(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else _read(reader, int(rest) + 2)[:-2]
    if kind == b"*":
        return [_redis_answer(reader) for _ in range(int(rest))]
    return rest


@contextmanager
def _connected(port: int) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, connection.makefile("rb") as reader:
        yield connection, reader


def _read(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise Refused("the connection was closed")
    return data
