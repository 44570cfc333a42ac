"""The envelopes of openai-agents' EncryptedSession: a Fernet token for each item, a key of its own for each session."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from unified_storage.errors import StorageConfigurationError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_VERSION, _KEY_ID = 1, "hkdf-v1"
_INFO = b"agents.session-store.hkdf.v1"
_MEMBERS = {"__enc__", "v", "kid", "payload"}


class NotAuthentic(Exception):
    """An envelope that this key does not open: of another key or session, damaged, or of a version unknown here."""


class Envelopes:
    """Opens and seals with one master key.

    Raises:
        ImportError: the package that knows the ciphers is missing.
    """

    def __init__(self, master_key: str) -> None:
        try:
            import cryptography.fernet as ciphers
        except ImportError as error:
            raise ImportError("pip install 'unified-storage[crypto]' for encrypted sessions") from error
        self._invalid = ciphers.InvalidToken
        self._master = _key_bytes(master_key)
        self._of_session = lru_cache(maxsize=256)(self._derived)

    def opened(self, session_id: str, envelope: Mapping[str, Any]) -> tuple[str, int]:
        """The text in *envelope*, and when it was sealed, in seconds since 1970.

        Raises:
            NotAuthentic: it is not one that this key sealed for this session.
        """
        told = envelope["v"], envelope["kid"]
        if told != (_VERSION, _KEY_ID) or envelope.keys() != _MEMBERS or not isinstance(envelope["payload"], str):
            raise NotAuthentic
        fernet = self._of_session(session_id)
        try:
            token = envelope["payload"].encode("ascii")
            return fernet.decrypt(token).decode(), fernet.extract_timestamp(token)
        except (self._invalid, UnicodeError) as error:
            raise NotAuthentic from error

    def sealed(self, session_id: str, text: str, seconds: int) -> dict[str, Any]:
        """*text* in an envelope that says it was sealed then."""
        token = self._of_session(session_id).encrypt_at_time(text.encode(), seconds)
        return {"__enc__": 1, "v": _VERSION, "kid": _KEY_ID, "payload": token.decode()}

    def _derived(self, session_id: str) -> Fernet:
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(algorithm=SHA256(), length=32, salt=session_id.encode(), info=_INFO).derive(self._master)
        return Fernet(base64.urlsafe_b64encode(derived))


def envelopes_of(variable: str | None) -> Envelopes | None:
    """The envelopes of the key in the environment's *variable*; None where none is named.

    Raises:
        StorageConfigurationError: it holds no key, or what opens envelopes is not installed.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise StorageConfigurationError(f"key_env={variable}: the environment has no key in {variable}; set it")
    try:
        return Envelopes(key)
    except ImportError as error:
        raise StorageConfigurationError(str(error), cause=error) from error


def _key_bytes(master_key: str) -> bytes:
    """As the library takes it: 32 bytes in URL-safe base64, or any text."""
    try:
        decoded = base64.urlsafe_b64decode(master_key)
    except (binascii.Error, ValueError):
        return master_key.encode()
    return decoded if len(decoded) == 32 else master_key.encode()
