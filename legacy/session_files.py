"""One session, one JSON file: the file's name, its text, and replacing it in one step."""

from __future__ import annotations

import json
import os
import re
import uuid
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from unified_storage.errors import StorageValidationError
from unified_storage.values import MAX_DEPTH, equal

SUFFIX = ".json"
MAX_NAME_BYTES = 200
_HASHED = "%sha256-"  # no id gives this: a "%" stands before two hex digits or nowhere
_HASHED_NAME = re.compile(rf"{_HASHED}[0-9a-f]{{64}}{re.escape(SUFFIX)}")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff%/\\<>:"|?*]|^\.')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})


def file_name(session_id: str) -> str:
    """The name of the file that holds the session: ``<id>.json`` wherever the id can be a file's name.

    Separators, controls, ``%``, a leading dot and what Windows reserves are percent-encoded; a name that would take
    more than 200 bytes is a hash instead. Different ids have different names; on a file system that ignores case or
    the composition of accents, such names may still mean one file.

    Raises:
        StorageValidationError: the id is empty.
    """
    if not session_id:
        raise StorageValidationError("a session needs an id", details={"path": "session_id"})
    if _stands_for_itself(session_id):
        return session_id + SUFFIX
    encoded = _UNSAFE.sub(_percent, session_id)
    if _DEVICE.match(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    name = encoded + SUFFIX
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{_HASHED}{sha256(_bytes(session_id)).hexdigest()}{SUFFIX}"


def session_id_of(file_name_found: str) -> str | None:
    """The id whose :func:`file_name` is exactly this; None for every other name, hashes included."""
    if not file_name_found.endswith(SUFFIX):
        return None
    stem = file_name_found.removesuffix(SUFFIX)
    if stem and _stands_for_itself(stem):
        return stem
    try:
        session_id = unquote_to_bytes(stem).decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None
    return session_id if session_id and file_name(session_id) == file_name_found else None


def _stands_for_itself(session_id: str) -> bool:
    """Whether nothing of the id has to be written otherwise in a file's name."""
    if _UNSAFE.search(session_id) or _DEVICE.match(session_id):
        return False
    return len((session_id + SUFFIX).encode()) <= MAX_NAME_BYTES


def is_hashed(file_name_found: str) -> bool:
    """Whether the name is the hash of an id, which then stands in the document."""
    return _HASHED_NAME.fullmatch(file_name_found) is not None


def document_bytes(document: dict[str, Any]) -> bytes:
    """The file's content: JSON as the old stores wrote it, two blanks a level, any script as it is.

    Raises:
        StorageValidationError: JSON would not give back what is in it (bytes, times, tuples, keys that are no text,
            more than 256 levels, integers of over 4300 digits); ``error.path`` names the place.
    """
    _check(document, (), set())
    try:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    except ValueError as error:  # the check leaves it nothing but an integer that Python does not print
        raise StorageValidationError(f"cannot be written as JSON: {error}", details={"path": "data"}) from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        # lone surrogates; JSON spells them \ud800, and it reads two halves side by side as one character
        if not equal(json.loads(text.encode("utf-8", "backslashreplace")), document):
            message = "two halves of a surrogate pair side by side would become one character"
            raise StorageValidationError(message, details={"path": "data"}) from None
        return text.encode("utf-8", "backslashreplace")


def replace_file(path: Path, content: bytes) -> None:
    """Put *content* at *path* so that every reader sees the old file or the new one, also after a crash.

    Each writer has a file of its own until the last step, so that writers of one session do not disturb each other.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes(found[0]))


def _check(value: object, path: tuple[str | int, ...], above: set[int]) -> None:
    kind = type(value)
    if kind not in _PLAIN:
        raise _refused(path, f"JSON has no {kind.__name__}")
    if not isinstance(value, dict | list):
        return
    if id(value) in above:
        raise _refused(path, "it contains itself")
    if len(above) == MAX_DEPTH:
        raise _refused(path, f"more than {MAX_DEPTH} levels")
    above.add(id(value))
    for step, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict) and type(step) is not str:
            raise _refused(path, f"a key must be a str, not {type(step).__name__}")
        _check(item, (*path, step), above)
    above.remove(id(value))


def _refused(path: tuple[str | int, ...], reason: str) -> StorageValidationError:
    place = "data" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return StorageValidationError(f"{place} cannot be kept in a file: {reason}", details={"path": place})
