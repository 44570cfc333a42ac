"""What a server sends is read the same in whatever pieces it comes."""

import random
from typing import Any

import pytest
from redis.exceptions import AskError, InvalidResponse, MovedError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from unified_storage.backends.redis.answers import Answers
from unified_storage.backends.redis.line import Line
from unified_storage.backends.redis.settings import Address, settings_of
from unified_storage.opening import parse_url


def _sent(value: Any) -> bytes:
    """A value as a server sends it."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(_sent, value))


def _some_value(chance: random.Random, depth: int = 0) -> Any:
    match chance.randrange(6 if depth < 3 else 4):
        case 0:
            return None
        case 1:
            return chance.choice([0, -1, 10**18])
        case 2:
            return chance.choice([b"", b"\r\n", b"$5\r\n", "é\0".encode(), b"*1"])
        case 3:
            return bytes(chance.choices(range(256), k=chance.choice([1, 20, 3000])))
    return [_some_value(chance, depth + 1) for _ in range(chance.randrange(4))]


def test_answers_cut_anywhere_are_the_same() -> None:
    chance = random.Random(5)
    for _ in range(300):
        values = [_some_value(chance) for _ in range(chance.randrange(1, 6))]
        sent, answers, found = b"".join(map(_sent, values)), Answers(), []
        at = 0
        while at < len(sent):
            size = chance.choice([1, 2, 7, 500, 5000])
            answers.feed(sent[at : at + size])
            at += size
            while answers.whole:
                found.append(answers.whole.popleft())
        assert found == values
        assert answers.is_empty


def test_half_an_answer_is_no_quiet_line() -> None:
    answers = Answers()
    for piece in (b"*2\r\n", b"$3\r\nab", b"c\r\n"):
        answers.feed(piece)
        assert not answers.is_empty
        assert not answers.whole
    answers.feed(b"+OK\r\n")
    assert answers.whole.popleft() == [b"abc", b"OK"]
    assert answers.is_empty


def test_a_list_that_is_not_there_is_none() -> None:
    answers = Answers()
    answers.feed(b"*-1\r\n*0\r\n")
    assert [*answers.whole] == [None, []]


def test_errors_are_those_of_the_driver_also_inside_of_lists() -> None:
    answers = Answers()
    answers.feed(b"-MOVED 7 h:1\r\n*2\r\n-ASK 8 i:2\r\n:1\r\n-ERR what\r\n-OOM full\r\n")
    moved, (ask, one), other, full = answers.whole
    assert (type(moved), moved.slot_id, moved.host, moved.port) == (MovedError, 7, "h", 1)
    assert (type(ask), ask.port, one) == (AskError, 2, 1)
    assert (type(other), str(other)) == (ResponseError, "what")
    assert isinstance(full, ResponseError)


@pytest.mark.parametrize("sent", [b"HTTP/1.1 400\r\n", b"$five\r\n", b"*\r\n", b":one\r\n", b"\r\n"])
def test_what_is_no_answer_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidResponse):
        Answers().feed(sent)


async def test_a_line_that_was_cut_has_no_answer_and_says_so() -> None:
    line = Line(Address("127.0.0.1", 1), settings_of(parse_url("redis://127.0.0.1:1"), {}))
    with pytest.raises(RedisConnectionError):
        await line.answer()


def test_a_large_text_is_put_together_once() -> None:
    """Not once for each of its pieces, which would take hours."""
    answers, piece = Answers(), b"x" * 1000
    answers.feed(b"$20000000\r\n")
    for _ in range(20_000):
        answers.feed(piece)
    answers.feed(b"\r\n")
    assert len(answers.whole.popleft()) == 20_000_000
