"""Every error a storage raises: a sentence, a stable code, facts, and whether trying again can help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

_MASK = "***"
_WORD = re.compile(r"\S+")
_QUERY_SECRET = re.compile(
    r"(?i)(?P<head>[?&][^?=&\s]*(?:password|passwd|passphrase|pass|pwd|secret|token|api_?key|access_?key|(?<![a-z])key)=)"
    r"(?P<secret>[^&\s]*?)(?P<end>(?:['\"][,;:.)]*)?(?=[&\s]|$))"
)
_NAMED_SECRET = re.compile(
    r"(?i)(?P<name>password|passwd|pwd|secret|token|api_?key)(?P<sign>['\"]?\s*[=:]\s*)"
    r"(?P<secret>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s&;,'\"]+)"
)
_BEARER = re.compile(r"(?i)\b(?P<head>bearer[\s:]+['\"]?)[^\s'\",;]{4,}")
_SECRET_NAME = re.compile(r"(?i)(?:password|passwd|pwd|secret|token|api_?key)$")


def redacted(text: str) -> str:
    """*text* with the secrets of connection strings, URLs, ``password=...`` pairs and bearer tokens masked."""
    masked = _BEARER.sub(rf"\g<head>{_MASK}", text)
    masked = _QUERY_SECRET.sub(rf"\g<head>{_MASK}\g<end>", masked)
    masked = _NAMED_SECRET.sub(rf"\g<name>\g<sign>{_MASK}", masked)
    return _WORD.sub(_without_login, masked)


def _without_login(word: re.Match[str]) -> str:
    """A URL without its password. Rather too much goes than too little: it may hold signs that nobody escaped."""
    text = word[0]
    start = text.find("://") + 3
    colon, at = text.find(":", start), text.rfind("@")
    return text if start < 3 or colon < 0 or at < colon else f"{text[: colon + 1]}{_MASK}{text[at:]}"


def _redacted_details(details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _MASK if isinstance(item, str) and _SECRET_NAME.search(str(key)) else _redacted_value(item)
        for key, item in details.items()
    }


def _redacted_value(value: object) -> object:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return _redacted_details(value)
    if isinstance(value, list | tuple):
        return [_redacted_value(item) for item in value]
    return value


class StorageError(Exception):
    """Something a storage could not do.

    Args:
        message: one sentence; passwords in it are masked.
        error_code: stable text such as ``STORAGE_NOT_FOUND_ERROR``; the class's own when not given.
        details: facts (ids, paths, numbers), never contents of documents.
        cause: what went wrong below; also set as ``__cause__``.
        retryable: whether the same call may succeed when tried again; the class's own answer when not given.
    """

    code: ClassVar[str] = "STORAGE_ERROR"
    retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        error_code: str | None = None,
        details: Mapping[str, Any] | None = None,
        cause: BaseException | None = None,
        retryable: bool | None = None,
    ) -> None:
        self.message = redacted(message)
        super().__init__(self.message)
        self.error_code = error_code or type(self).code
        self.details: dict[str, Any] = _redacted_details(details or {})
        if cause is not None:
            self.__cause__ = cause
        if retryable is not None:
            self.retryable = retryable

    @property
    def cause(self) -> BaseException | None:
        """What went wrong below, when something did."""
        return self.__cause__

    def to_dict(self) -> dict[str, Any]:
        """Type, code, message, details, retryable and the cause's text: plain data for a log or an answer."""
        cause = self.__cause__
        return {
            "type": type(self).__name__,
            "error_code": self.error_code,
            "message": self.message,
            "details": dict(self.details),
            "retryable": self.retryable,
            "cause": None if cause is None else redacted(f"{type(cause).__name__}: {cause}"),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> StorageError:
        """The error that :meth:`to_dict` described (its cause stays a text in ``details``)."""
        details = dict(facts.get("details") or {})
        if facts.get("cause"):
            details.setdefault("cause", facts["cause"])
        error = error_from_code(str(facts["error_code"]), str(facts.get("message", "")), details=details)
        if "retryable" in facts:
            error.retryable = bool(facts["retryable"])
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), self.message, self.error_code, self.details, self.retryable, self.__cause__))


def _rebuilt(
    kind: type[StorageError],
    message: str,
    error_code: str,
    details: dict[str, Any],
    retryable: bool,
    cause: BaseException | None,
) -> StorageError:
    # Past a subclass's own __init__: what it adds stands in ``details``.
    error = kind.__new__(kind)
    StorageError.__init__(error, message, error_code=error_code, details=details, cause=cause, retryable=retryable)
    return error


class StorageConnectionError(StorageError):
    """The backend cannot be reached; ``details["outcome"] == "unknown"`` when a commit was on the wire."""

    code = "STORAGE_CONNECTION_ERROR"
    retryable = True


class StorageTransactionError(StorageError):
    """A transaction was rolled back; ``index`` names the operation of a list that failed."""

    code = "STORAGE_TRANSACTION_ERROR"

    @property
    def index(self) -> int | None:
        """Place of the failed operation in the list given to ``transaction``, counted from 0."""
        return self.details.get("index")


class StorageValidationError(StorageError):
    """The input is wrong; ``path`` names the place in it where there is one."""

    code = "STORAGE_VALIDATION_ERROR"

    @property
    def path(self) -> str | None:
        """Where in the input the fault is, such as ``data.items[3].when``."""
        return self.details.get("path")


class StorageNotFoundError(StorageError):
    """What should be changed is not there."""

    code = "STORAGE_NOT_FOUND_ERROR"


class StorageAlreadyExistsError(StorageError):
    """What should be new is there already."""

    code = "STORAGE_ALREADY_EXISTS_ERROR"


class StorageConflictError(StorageError):
    """Somebody else was faster: an ``expected_version`` that is not found, or a conflict of the engine (retryable)."""

    code = "STORAGE_CONFLICT_ERROR"

    @property
    def expected(self) -> int | None:
        """The version the caller expected; None for a conflict of the engine."""
        return self.details.get("expected")

    @property
    def found(self) -> int | None:
        """The version that was there, 0 when nothing was; None for a conflict of the engine."""
        return self.details.get("found")


class StorageTimeoutError(StorageError):
    """It took longer than allowed; nothing was changed."""

    code = "STORAGE_TIMEOUT_ERROR"
    retryable = True


class StorageCapacityError(StorageError):
    """Too large: a record or entry above the limit, or a full disk."""

    code = "STORAGE_CAPACITY_ERROR"


class StorageIntegrityError(StorageError):
    """Stored bytes cannot be read back."""

    code = "STORAGE_INTEGRITY_ERROR"


class StoragePermissionError(StorageError):
    """The engine or the file system refuses."""

    code = "STORAGE_PERMISSION_ERROR"


class StorageConfigurationError(StorageError):
    """A URL, an option or the store's schema does not fit this program."""

    code = "STORAGE_CONFIGURATION_ERROR"


class StorageUnsupportedError(StorageError):
    """A skill this backend lacks, as its documentation says."""

    code = "STORAGE_UNSUPPORTED_ERROR"


class StorageClosedError(StorageError):
    """The storage, or the transaction, was closed before."""

    code = "STORAGE_CLOSED_ERROR"


class StorageMigrationError(StorageError):
    """A migration cannot go on as asked."""

    code = "STORAGE_MIGRATION_ERROR"


def _kinds(kind: type[StorageError]) -> list[type[StorageError]]:
    return [kind] + [deeper for child in kind.__subclasses__() for deeper in _kinds(child)]


def error_from_code(
    error_code: str, message: str = "", *, details: Mapping[str, Any] | None = None, cause: BaseException | None = None
) -> StorageError:
    """The error of class *error_code* (as ``to_dict`` wrote it); a plain ``StorageError`` for a code unknown here."""
    kind = next((kind for kind in _kinds(StorageError) if kind.code == error_code), StorageError)
    return _rebuilt(kind, message, error_code, dict(details or {}), kind.retryable, cause)
