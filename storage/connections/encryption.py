"""Encryption of what is stored secretly: Fernet tokens, under the first of one or more keys.

Fernet is AES-128 in CBC mode with an HMAC-SHA256 over all of it. A key is any text of at least 32
characters that nobody can guess; Fernet's own is derived from it by HKDF (RFC 5869). Stored bytes
begin with one that says whether they are encrypted, so a key may be set later.
"""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bandits.errors import Unavailable

SHORTEST_KEY = 32  # characters
_PLAIN, _ENCRYPTED = b"\x00", b"\x01"
_FERNET_BYTES = 32


class NoEncryptionKey(Unavailable):
    """A stored value is encrypted under a key that the server does not have."""

    def __init__(self) -> None:
        super().__init__(
            "a stored secret is encrypted under a key that BANDITS_ENCRYPTION_KEY does not name;"
            " add that key to it",
            retry_after_seconds=60,
        )


class Cipher:
    """Encryption under the first of some keys, decryption under any; without keys, neither."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Encrypt under the first of `keys`; the others only decrypt."""
        self._fernet = MultiFernet([_fernet(key) for key in keys]) if keys else None

    def __repr__(self) -> str:
        """Return the name alone: the keys are secret."""
        return "Cipher(…)"

    @property
    def encrypts(self) -> bool:
        """Return True where there is a key: what is sealed from now on is encrypted."""
        return self._fernet is not None

    def seal(self, content: bytes) -> bytes:
        """Encrypt `content` to be stored; without a key it is stored as it is."""
        if self._fernet is None:
            return _PLAIN + content
        return _ENCRYPTED + self._fernet.encrypt(content)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt stored bytes.

        Raises:
            NoEncryptionKey: they are encrypted under another key.
        """
        if not is_encrypted(sealed):
            return sealed[1:]
        if self._fernet is None:
            raise NoEncryptionKey
        try:
            return self._fernet.decrypt(sealed[1:])
        except InvalidToken:
            raise NoEncryptionKey from None


def is_encrypted(sealed: bytes) -> bool:
    """Return True for stored bytes that are encrypted."""
    return sealed[:1] == _ENCRYPTED


def parse_keys(text: str) -> tuple[str, ...]:
    """Read keys that are separated by commas.

    Raises:
        ValueError: one of them is too short.
    """
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise ValueError(f"each key must have at least {SHORTEST_KEY} characters")
    return keys


def _fernet(key: str) -> Fernet:
    derivation = HKDF(SHA256(), _FERNET_BYTES, salt=None, info=b"bandits encryption key")
    return Fernet(base64.urlsafe_b64encode(derivation.derive(key.encode())))
