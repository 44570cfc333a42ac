"""What the error numbers of MySQL and MariaDB become, and what of their messages is passed on. No server is needed."""

import pickle

import pytest
from asyncmy import errors

from unified_storage.backends.sql.mysql import MySQLDriver
from unified_storage.backends.sql.mysql_errors import ends_the_session, translated_error
from unified_storage.errors import (
    StorageCapacityError,
    StorageConfigurationError,
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageIntegrityError,
    StoragePermissionError,
    StorageTimeoutError,
)


def translated(error: Exception) -> StorageError:
    ours = translated_error(error)
    assert ours is not None
    return ours


@pytest.mark.parametrize(
    ("kind", "retryable", "numbers"),
    [
        (StorageConflictError, True, [1205, 1213, 3572, 1020, 1062, 1412]),
        (StorageTimeoutError, True, [1969, 3024, 1317]),
        (StoragePermissionError, False, [1044, 1045, 1142, 1143, 1227, 1698]),
        (StorageConfigurationError, False, [1049]),
        (StorageConnectionError, True, [1040, 1203, 2003, 2006, 2013, 2014, 1047, 1053, 1927, 1290]),
        (StorageCapacityError, False, [1114, 1021, 1153, 1406]),
        (StorageIntegrityError, False, [1034, 1712, 1194]),
        (StorageError, False, [1064, 1146, 1366, 9999]),
    ],
)
def test_a_number_has_its_meaning(kind, retryable, numbers) -> None:
    for number in numbers:
        error = errors.OperationalError(number, "said")
        ours = translated(error)
        assert type(ours) is kind, number
        assert ours.retryable is retryable
        assert ours.cause is error
        assert ours.details["code"] == number


def test_a_statement_that_another_node_of_a_cluster_interrupted_is_a_conflict() -> None:
    """Elsewhere somebody ended it on purpose, which is not undone by repeating it."""
    error = errors.OperationalError(1317, "Query execution was interrupted")
    ours = translated_error(error, in_cluster=True)
    assert type(ours) is StorageConflictError
    assert ours.retryable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        EOFError(),
        errors.InterfaceError(0, "Not connected"),
        errors.InternalError("Packet sequence number wrong - got 4 expected 1"),
    ],
)
def test_what_the_socket_or_the_driver_says_is_a_lost_connection(error) -> None:
    ours = translated(error)
    assert type(ours) is StorageConnectionError
    assert ours.retryable
    assert ours.message.removeprefix("MySQL: ")


def test_bytes_that_are_no_text_are_damage_and_not_shown() -> None:
    with pytest.raises(UnicodeDecodeError) as refused:
        b"hush\xff".decode()
    ours = translated(refused.value)
    assert type(ours) is StorageIntegrityError
    assert "hush" not in f"{ours.to_dict()}"


def test_other_errors_are_nobody_s_business() -> None:
    assert translated_error(KeyError("x")) is None
    assert translated_error(ValueError("x")) is None


@pytest.mark.parametrize(
    "error",
    [
        errors.ProgrammingError(1064, "You have an error near 'VALUES (1, 'it's hush', \"hush\")' at line 1"),
        errors.DataError(1366, "Incorrect string value: 'hush' for column `test`.`t`.`d` at row 1"),
        errors.IntegrityError(1062, "Duplicate entry 'hush\n'hush' for key 'by_key'"),
        errors.OperationalError(1292, "Truncated incorrect DOUBLE value: 'hush'"),
        errors.OperationalError(4711, "A number of which we know nothing: 'hush'"),
    ],
)
def test_no_value_of_a_statement_is_shown(error) -> None:
    ours = translated(error)
    assert "hush" not in f"{ours} {ours.to_dict()} {ours.cause!r} {ours.cause}"
    assert str(error.args[0]) in ours.message


def test_names_are_shown_where_they_help() -> None:
    assert "'app'@'host'" in translated(errors.OperationalError(1045, "Access denied for user 'app'@'host'")).message
    assert "'shop'" in translated(errors.OperationalError(1049, "Unknown database 'shop'")).message
    assert "'db:3306'" in translated(errors.OperationalError(2003, "Can't connect to 'db:3306'")).message


def test_an_error_travels_between_processes() -> None:
    ours = translated(errors.OperationalError(1213, "Deadlock found"))
    copy = pickle.loads(pickle.dumps(ours))
    assert (type(copy), copy.message, copy.retryable, copy.details) == (
        StorageConflictError,
        ours.message,
        True,
        ours.details,
    )


def test_a_connection_is_lost_with_some_errors_only() -> None:
    for number in (1927, 1053, 1153, 2013, 4031):
        assert ends_the_session(errors.OperationalError(number, "said"))
    for number in (1205, 1213, 1062, 1064, 1317, 1969, 1047):
        assert not ends_the_session(errors.OperationalError(number, "said"))
    assert ends_the_session(errors.InternalError("Packet sequence number wrong"))


def test_a_server_that_is_full_or_starts_is_asked_again_and_one_that_is_not_there_is_not() -> None:
    driver = MySQLDriver([], {}, statement_timeout=1)
    assert driver.says_later(translated(errors.OperationalError(1040, "Too many connections")))
    assert driver.says_later(translated(errors.OperationalError(1047, "WSREP has not yet prepared node")))
    assert not driver.says_later(translated(errors.OperationalError(2003, "Can't connect")))
