"""What goes to a MySQL or MariaDB server comes back: values stand beside the statement, and are never part of it."""

from typing import Any

import pytest

from tests.unified_storage.mysql.sessions import driver_for
from unified_storage import open_storage
from unified_storage.backends.sql.mysql_connection import _parts
from unified_storage.backends.sql.statements import Call
from unified_storage.errors import StorageCapacityError

pytestmark = pytest.mark.servers
MIB = 1 << 20
TEXTS = [
    *("", "\0", "a\0b", "'", '"', "\\", "\\'", "''", "`", "\x1a", "\n\r\t", "--", "/*", ";"),
    *("%", "%s %% %(a)s", "?", ":name", "{}", "x ", " x", "X", "é", "\ufeff", "😀", "\U0010ffff", "\ud7ff\ue000"),
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_a_text_is_found_and_comes_back(connect, table, text) -> None:
    connection = await connect()
    await connection.run(Call(f"INSERT INTO {table} (id, d) VALUES (?, ?)", [text, text]))
    found = Call(f"SELECT id, d FROM {table} WHERE id = ? AND d = ?", [text, text])
    assert await connection.run(found) == [[text, text]]


async def test_names_are_neither_folded_nor_padded(connect, table) -> None:
    connection = await connect()
    names = ["a", "A", "a ", "a\0", "ä", "a\u0308", "á"]
    for name in names:
        await connection.run(Call(f"INSERT INTO {table} (id) VALUES (?)", [name]))
    for name in names:
        assert await connection.run(Call(f"SELECT id FROM {table} WHERE id = ?", [name])) == [[name]]


async def test_the_longest_ids_are_sorted_by_their_last_byte_too(connect, table) -> None:
    """The server sorts by the first 1024 bytes of an expression only, less some, unless it is told otherwise."""
    connection = await connect()
    names = sorted(["x" * 1023 + last for last in "dacb"] + ["y", "y\0", "y\0\0"])
    for name in reversed(names):
        await connection.run(Call(f"INSERT INTO {table} (id) VALUES (?)", [name]))
    assert await connection.run(Call(f"SELECT id FROM {table} ORDER BY id || ''")) == [[name] for name in names]


async def test_every_byte_of_a_key_is_kept(connect, table) -> None:
    connection = await connect()
    for key in (bytes(range(256)), b"\xff\xfe", b"", b"'\\\"\0\x1a%"):
        put = Call(f"INSERT INTO {table} (k) VALUES (?)", [key], wants_number=True)
        ((number,),) = await connection.run(put)
        found = Call(f"SELECT hex(k) FROM {table} WHERE n = ? AND k = ? AND k >= ?", [number, key, key])
        assert await connection.run(found) == [[key.hex().upper()]]


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_a_number_comes_back(connect, table, value) -> None:
    connection = await connect()
    await connection.run(Call(f"INSERT INTO {table} (v) VALUES (?)", [value]))
    assert await connection.run(Call(f"SELECT v FROM {table} WHERE v <=> ?", [value])) == [[value]]


async def test_the_number_of_a_new_row_is_told(connect, table) -> None:
    connection = await connect()
    put = Call(f"INSERT INTO {table} (v) VALUES (?)", [7], wants_number=True)
    ((first,),), ((second,),) = await connection.run(put), await connection.run(put)
    rows = await connection.run(Call(f"SELECT n FROM {table} WHERE v = ? ORDER BY n", [7]))
    assert rows == [[first], [second]]


# -- many rows -----------------------------------------------------------------------------------------------------


async def test_many_rows_are_written_in_their_order(connect, table) -> None:
    connection = await connect()
    rows = [[f"id{number}", None if number % 3 else b"\xff", number, "x" * (number % 7)] for number in range(1000)]
    await connection.run(Call(f"INSERT INTO {table} (id, k, v, d) VALUES (?, ?, ?, ?)", rows, many=True))
    found = await connection.run(Call(f"SELECT id, hex(k), v, d FROM {table} ORDER BY n"))
    assert found == [[id, None if key is None else "FF", v, d] for id, key, v, d in rows]


async def test_many_updates_are_each_done(connect, table) -> None:
    connection = await connect()
    rows: list[list[Any]] = [[f"id{number}", number] for number in range(300)]
    await connection.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", rows, many=True))
    await connection.run(Call(f"UPDATE {table} SET v = ? WHERE id = ?", [[-v, id] for id, v in rows], many=True))
    assert await connection.run(Call(f"SELECT v FROM {table} ORDER BY n")) == [[-v] for _, v in rows]


async def test_many_rows_are_an_error_when_one_is_refused(connect, table) -> None:
    connection = await connect()
    rows = [[f"id{number}", number] for number in [*range(500), 3]]
    await connection.begin("write", 10)
    with pytest.raises(Exception, match="Duplicate entry"):
        await connection.run(Call(f"INSERT INTO {table} (id, v) VALUES (?, ?)", rows, many=True))
    await connection.rollback()
    assert await connection.run(Call(f"SELECT count(*) FROM {table}")) == [[0]]


async def test_many_long_rows_go_in_packets_that_the_server_takes(connect, table) -> None:
    connection = await connect()
    long = '"' * (3 * MIB)
    assert connection.session.largest_packet < 8 * len(long)
    await connection.run(Call(f"INSERT INTO {table} (v, d) VALUES (?, ?)", [[n, long] for n in range(8)], many=True))
    found = await connection.run(Call(f"SELECT count(*), min(d) = max(d), min(length(d)) FROM {table}"))
    assert found == [[8, 1, len(long)]]


def test_parts_have_few_lengths_and_hold_every_row_once() -> None:
    rows = [[number, "x" * (number % 11)] for number in range(777)]
    parts = [*_parts(rows, 900)]
    assert [row for part in parts for row in part] == rows
    assert {len(part) for part in parts} <= {1, 2, 4, 8, 16, 32, 64, 128, 256}
    assert all(sum(8 + len(text) for _, text in part) <= 900 for part in parts)
    assert [len(part) for part in _parts([["x" * 50]] * 3, 10)] == [1, 1, 1]


# -- large values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ['"', "\\", "\0", "😀"], ids=ascii)
async def test_fifteen_mebibytes_come_back(connect, table, character) -> None:
    """Written into a statement most of these would double, and break the default packet of 16 MiB."""
    connection = await connect()
    text = character * (15 * MIB // len(character.encode()))
    put = Call(f"INSERT INTO {table} (d) VALUES (?)", [text], wants_number=True)
    ((number,),) = await connection.run(put)
    ((found,),) = await connection.run(Call(f"SELECT d FROM {table} WHERE n = ?", [number]))
    assert found == text


async def test_what_no_packet_holds_is_refused_and_the_connection_goes_on(connect, table) -> None:
    connection = await connect()
    largest = connection.session.largest_packet
    await connection.begin("write", 10)
    await connection.run(Call(f"INSERT INTO {table} (id) VALUES (?)", ["before"]))
    for text in ("x" * largest, "😀" * (largest // 4)):
        with pytest.raises(StorageCapacityError, match="max_allowed_packet") as refused:
            await connection.run(Call(f"INSERT INTO {table} (d) VALUES (?)", [text]))
        assert refused.value.details["max_allowed_packet"] == largest
    await connection.commit()
    assert await connection.run(Call(f"SELECT id FROM {table}")) == [["before"]]


async def test_the_largest_packet_that_is_sent_is_taken(connect, table) -> None:
    """The room that is left for what stands beside the values is enough."""
    connection = await connect()
    values: list[Any] = ["x" * 1000, "k" * 500, 1, ""]
    room = connection.session.largest_packet - 1024 - 12 * len(values) - 1500 - 8
    values[3] = "d" * room
    sql = f"INSERT INTO {table} (id, k, v, d) VALUES (?, ?, ?, ?)"
    await connection.run(Call(sql, values))
    assert await connection.run(Call(f"SELECT length(d) FROM {table}")) == [[room]]
    values[3] += "d"
    with pytest.raises(StorageCapacityError):
        await connection.run(Call(sql, values))


async def test_a_server_with_small_packets_says_so_and_loses_nothing(private) -> None:
    async with open_storage(private.url) as storage:
        await _with_packets_of(private, 1 * MIB)
    async with open_storage(private.url) as storage:
        await storage.save({"id": "small", "type": "note", "data": {"text": "x" * 900_000}})
        with pytest.raises(StorageCapacityError, match="max_allowed_packet") as refused:
            await storage.save({"id": "large", "type": "note", "data": {"text": "x" * 2 * MIB}})
        assert refused.value.details["max_allowed_packet"] == MIB
        assert await storage.load("large", type="note") is None
        assert len((await storage.load("small", type="note") or {})["data"]["text"]) == 900_000
    await _with_packets_of(private, 16 * MIB)


async def _with_packets_of(private, size: int) -> None:
    connection = await driver_for(private.url).connect(5)
    await connection.run(Call(f"SET GLOBAL max_allowed_packet = {size}"))
    await connection.close()
