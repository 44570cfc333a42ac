"""The old file store, one JSON file a session, without its old faults."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from legacy.failures import Failures, OnError, check_session_data, check_session_id
from legacy.listings import newest_first, summary_of
from legacy.session_files import (
    SUFFIX,
    document_bytes,
    file_name,
    is_hashed,
    replace_file,
    session_id_of,
    sync_folder,
)
from legacy.store import ISessionStore
from session_adapter.formats import detect
from session_adapter.formats.places import text_of
from unified_storage.errors import StorageIntegrityError, StorageValidationError

__all__ = ["FileSessionStore", "file_name", "session_id_of"]

# A pipe is not waited on; each flag is missing on some system.
_READ_ONLY = os.O_RDONLY | sum(int(getattr(os, name, 0)) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class FileSessionStore(ISessionStore):
    """Sessions as files ``<id>.json`` of one folder, which the first save makes.

    Each file is replaced in one step, so that no reader sees half a session and two writers never mix. A value that
    JSON would change (a tuple, bytes, a key that is no text) is refused. Where the id is too long for a file's name,
    it must stand in the document: ``metadata.session_id`` is added when the document has no id.

    A failure gives False, None or an empty list, and its reason as ``last_error``; None in ``last_error`` says that
    the session is really not there. A damaged file is a failure, never an absent session. Arguments of a wrong type
    raise ``TypeError``.

    Args:
        path: the folder.
        strict: raise failures (``StorageError``, ``OSError``).
        on_error: called with every failure.
    """

    def __init__(self, path: str | PathLike[str], *, strict: bool = False, on_error: OnError | None = None) -> None:
        self.path = Path(path)
        self._failures = Failures(strict=strict, on_error=on_error)

    @property
    def last_error(self) -> Exception | None:
        """Why this thread's last call failed; None when it did not."""
        return self._failures.last

    def save_session(self, session_id: str, session_data: dict[str, Any]) -> bool:
        check_session_id(session_id)
        check_session_data(session_data)
        return self._failures.answered("save_session", lambda: self._save(session_id, session_data), False)

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        check_session_id(session_id)
        return self._failures.answered("get_session", lambda: self._get(session_id), None)

    def delete_session(self, session_id: str) -> bool:
        """Remove the session; True also when there was none."""
        check_session_id(session_id)
        return self._failures.answered("delete_session", lambda: self._delete(session_id), False)

    def list_sessions(self) -> list[dict[str, Any]]:
        """The summaries, last updated first. Each damaged file is reported and left out (strict: raised)."""
        return self._failures.answered("list_sessions", lambda: newest_first(self._summaries()), [])

    def session_exists(self, session_id: str) -> bool:
        """Whether the session has a file, damaged or not."""
        check_session_id(session_id)
        return self._failures.answered("session_exists", lambda: self._file(session_id).exists(), False)

    def session_ids(self) -> list[str]:
        """The ids of all sessions, in any order; only documents whose ids stand nowhere else are read.

        Each damaged one of these is reported and left out (strict: raised).
        """
        return self._failures.answered("session_ids", lambda: [*self._ids()], [])

    def _save(self, session_id: str, session_data: dict[str, Any]) -> bool:
        file = self._file(session_id)
        document = _with_id(session_id, session_data) if is_hashed(file.name) else session_data
        content = document_bytes(document)
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(file, content)
        return True

    def _get(self, session_id: str) -> dict[str, Any] | None:
        try:
            return _document(self._file(session_id))
        except FileNotFoundError:
            return None

    def _delete(self, session_id: str) -> bool:
        try:
            self._file(session_id).unlink()
        except FileNotFoundError:
            return True
        sync_folder(self.path)
        return True

    def _summaries(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            try:
                document = _document(file)
            except FileNotFoundError:
                continue  # deleted while we were listing
            except (OSError, StorageIntegrityError) as error:
                self._failures.of_a_part("list_sessions", error)
                continue
            yield summary_of(_listed_id(file.name, document), document)

    def _ids(self) -> Iterator[str]:
        for file in self._files():
            known = _listed_id(file.name, {})
            if known is not None:
                yield known
                continue
            try:
                document = _document(file)
                found = detect(document).document_id(document)
            except FileNotFoundError:
                continue  # deleted while we were listing
            except (OSError, StorageIntegrityError) as error:
                self._failures.of_a_part("session_ids", error)
                continue
            if found is not None and (text := text_of(found)) is not None:
                yield text

    def _files(self) -> list[Path]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []  # nothing was saved yet
        return [file for name in names if name.endswith(SUFFIX) and (file := self.path / name).is_file()]

    def _file(self, session_id: str) -> Path:
        """The session's file: the one of the old writer, which encoded nothing, where only that is there."""
        ours = self.path / file_name(session_id)
        if ours.name == session_id + SUFFIX or not _is_plain_name(session_id) or ours.exists():
            return ours
        old = self.path / f"{session_id}{SUFFIX}"
        return old if session_id_of(old.name) is None and old.exists() else ours


def _is_plain_name(session_id: str) -> bool:
    return not {"/", "\\", "\0"} & set(session_id) and len(session_id.encode("utf-8", "surrogatepass")) < 250


def _document(file: Path) -> dict[str, Any]:
    content = _content(file)
    try:
        document = json.loads(content)  # bytes, so that UTF-16 and a byte order mark are recognised
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(file, f"holds a {type(document).__name__}, no object")
    return document


def _content(file: Path) -> bytes:
    descriptor = os.open(file, _READ_ONLY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged(file, "is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read()
    finally:
        os.close(descriptor)


def _damaged(file: Path, reason: str) -> StorageIntegrityError:
    return StorageIntegrityError(f"the session file {file.name!r} is damaged: {reason}", details={"file": file.name})


def _listed_id(name: str, document: dict[str, Any]) -> str | None:
    return None if is_hashed(name) else session_id_of(name) or name.removesuffix(SUFFIX)


def _with_id(session_id: str, document: dict[str, Any]) -> dict[str, Any]:
    """*document*, in which its id stands; only the mappings on the way are copied."""
    found = detect(document).document_id(document)
    if found is not None and text_of(found) == session_id:
        return document
    metadata = document.get("metadata")
    if found is not None or not isinstance(metadata, dict | None):
        raise StorageValidationError(
            "this id is too long for a file's name, and the document has no room for it in metadata.session_id",
            details={"path": "metadata.session_id"},
        )
    return {**document, "metadata": {**(metadata or {}), "session_id": session_id}}
