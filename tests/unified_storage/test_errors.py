"""Errors: one class for each code, plain data, picklable, and never a password (S2.32, T2.26, T2.27)."""

import copy
import inspect
import json
import pickle

import pytest

from unified_storage import errors
from unified_storage.errors import (
    StorageConflictError,
    StorageConnectionError,
    StorageError,
    StorageTransactionError,
    StorageValidationError,
    error_from_code,
    redacted,
)

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StorageError)]
NAMED_BY_THE_DESIGN = [
    *("Connection", "Transaction", "Validation", "NotFound", "AlreadyExists", "Conflict", "Timeout", "Capacity"),
    *("Integrity", "Permission", "Configuration", "Unsupported", "Closed", "Migration"),
]
SECRETS = [
    "postgresql://user:hunter2@host:5432/db?sslmode=disable",
    "redis://:hunter2@host/0",
    "mysql+asyncmy://user:hunt:er2@host/db",
    "postgres://user:hunter2%40x@host",
    "cannot connect to postgresql://u:hunter2@h/d: refused",
    "host=h password=hunter2 user=u",
    "PASSWORD='hunter2'",
    "password='hunter2 and \\'more\\' hunter2' host=h",
    "{'password': 'hunter2', 'user': 'u'}",
    "DB_PASSWORD=hunter2",
    "https://h/?api_key=hunter2&x=1",
    "token: hunter2",
    "mysql://user:not/hunter2@host/db",
    "mysql://user:not?hunter2@host/db",
    "mysql://user@place:hunter2@host/db",
    "postgresql://host/db?user=u&password=hunter2",
    "postgresql://host:5432/db?password=not@hunter2",
    "unknown place 'postgresql://host/db?password=not,hunter2;hunter2&sslmode=on', or not",
    "no 'postgresql://host/db?sslpassword=hunter2'",
    "rediss://host:1/0?ssl_password=hunter2'hunter2&db=1",
    "mysql:///db?unix_socket=/run/mysqld.sock&passwd=hunter2",
    "mysql://user:hunter2@/db?unix_socket=/run/mysqld.sock",
    "postgresql://user:hunter2@/db?host=/run/postgresql",
    "https://host/v1/models/m:generate?key=hunter2&alt=sse",
    "POST https://host/v1?alt=sse&access_key=hunter2",
    "Authorization: Bearer hunter2.hunter2-hunter2",
    "{'Authorization': 'Bearer hunter2'}",
]


def test_there_is_a_class_for_everything_that_can_go_wrong() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        "StorageError",
        *(f"Storage{name}Error" for name in NAMED_BY_THE_DESIGN),
    }
    assert all(issubclass(kind, StorageError) for kind in KINDS)


def test_codes_are_stable_and_each_stands_for_one_class() -> None:
    codes = {kind.__name__: kind.code for kind in KINDS}
    assert len(set(codes.values())) == len(KINDS)
    assert codes["StorageNotFoundError"] == "STORAGE_NOT_FOUND_ERROR"
    assert codes["StorageAlreadyExistsError"] == "STORAGE_ALREADY_EXISTS_ERROR"
    assert codes["StorageClosedError"] == "STORAGE_CLOSED_ERROR"
    assert all(code.startswith("STORAGE_") and code.endswith("ERROR") for code in codes.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_is_built_from_its_code(kind: type[StorageError]) -> None:
    """T2.26: the naive way hands the code over twice."""
    cause = ValueError("below")
    error = error_from_code(kind.code, "it failed", details={"id": "a"}, cause=cause)
    assert type(error) is kind
    assert (error.message, error.error_code, error.details, error.cause) == ("it failed", kind.code, {"id": "a"}, cause)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_goes_to_plain_data_and_back(kind: type[StorageError]) -> None:
    error = kind("it failed", details={"id": "a", "list": [1, ("x",)]}, cause=ValueError("below"), retryable=True)
    facts = json.loads(json.dumps(error.to_dict()))
    assert facts == {
        "type": kind.__name__,
        "error_code": kind.code,
        "message": "it failed",
        "details": {"id": "a", "list": [1, ["x"]]},
        "retryable": True,
        "cause": "ValueError: below",
    }
    back = StorageError.from_dict(facts)
    assert type(back) is kind
    assert (back.message, back.error_code, back.retryable) == ("it failed", kind.code, True)
    assert back.details == facts["details"] | {"cause": "ValueError: below"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickled", "copied"]
)
def test_every_error_survives_pickling(kind: type[StorageError], copied) -> None:
    error = kind("it failed", error_code="MY_CODE", details={"id": "a"}, cause=ValueError("below"), retryable=True)
    back = copied(error)
    assert type(back) is kind
    assert back.to_dict() == error.to_dict()
    assert repr(back.cause) == repr(error.cause)
    assert str(back) == str(error) == "it failed"


def test_an_unknown_code_is_kept_by_a_plain_error() -> None:
    error = error_from_code("STORAGE_OF_TOMORROW_ERROR", "new")
    assert type(error) is StorageError
    assert error.error_code == "STORAGE_OF_TOMORROW_ERROR"


def test_a_subclass_of_a_caller_is_found_by_its_code() -> None:
    class ShelfError(StorageValidationError):
        code = "SHELF_ERROR"

    assert type(error_from_code("SHELF_ERROR", "full")) is ShelfError


@pytest.mark.parametrize("text", SECRETS)
def test_no_password_gets_into_an_error(text: str) -> None:
    """T2.27."""
    error = StorageConnectionError(text, details={"url": text, "deep": [{"url": text}]}, cause=OSError(text))
    for shown in (str(error), repr(error), json.dumps(error.to_dict()), pickle.dumps(error.details).decode("latin-1")):
        assert "hunter2" not in shown
        assert "er2@" not in shown
        assert "not@" not in shown
        assert "not/" not in shown
    assert "***" in error.message


def test_a_detail_that_is_called_a_password_is_masked() -> None:
    error = StorageError("x", details={"password": "hunter2", "deep": {"api_key": "hunter2", "key": "k"}})
    assert error.details == {"password": "***", "deep": {"api_key": "***", "key": "k"}}


@pytest.mark.parametrize(
    "text",
    [
        *("a/b@c: no", "sqlite:////home/x/y.db", "http://host:8080/x", "key 'a' is taken", ""),
        *("postgresql://ann@host:5432/db?pool_size=3", "redis+cluster://h1:7000,h2:7000", "redis://[::1]:6379/0"),
        "postgresql://ann@host/db?passfile=/home/ann/.pgpass",
        *("http://host/x?monkey=1&keys=2", "the bearer", "a forbearer of it", "key=value"),
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redacted(text) == text


def test_a_cause_is_chained() -> None:
    below = OSError("disk")
    given = StorageError("it failed", cause=below)
    assert given.__cause__ is given.cause is below
    with pytest.raises(StorageError) as raised:
        try:
            raise below
        except OSError as error:
            raise StorageError("it failed") from error
    assert raised.value.cause is below
    assert raised.value.to_dict()["cause"] == "OSError: disk"


def test_retryable_is_a_class_answer_that_an_error_may_change() -> None:
    assert {kind.__name__ for kind in KINDS if kind("x").retryable} == {"StorageConnectionError", "StorageTimeoutError"}
    assert StorageConflictError("lock", retryable=True).retryable is True
    assert StorageConnectionError("commit", details={"outcome": "unknown"}, retryable=False).retryable is False


def test_facts_have_names() -> None:
    conflict = StorageConflictError("x", details={"expected": 1, "found": 2})
    assert (conflict.expected, conflict.found) == (1, 2)
    assert StorageTransactionError("x", details={"index": 3}).index == 3
    assert StorageValidationError("x", details={"path": "data.a"}).path == "data.a"
    bare = StorageConflictError("x")
    assert (bare.expected, bare.found, StorageTransactionError("x").index, StorageValidationError("x").path) == (
        None,
    ) * 4


def test_details_are_the_errors_own() -> None:
    details = {"id": "a"}
    error = StorageError("x", details=details)
    error.details["more"] = 1
    assert details == {"id": "a"}
    error.to_dict()["details"]["more"] = 2
    assert error.details["more"] == 1
