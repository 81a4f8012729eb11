"""Tracking tokens: links of emails that say by themselves what they are of, signed by a key.

A token is ``KEY.CONTENT.SIGNATURE``: the key's id, the content in base64 for addresses, and the
first 16 bytes of its HMAC-SHA256 (RFC 2104) under the key's secret, in the same base64. The content
is a text of parts between spaces: a letter for the kind, the address that the link leads to or
``-``, and the ids of one or more decisions.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Collection
from enum import StrEnum
from hashlib import sha256
from typing import Self

from msgspec import Struct

from bandits.errors import BanditsError, InvalidInput

KEY_PREFIX = "bandits_tracking_"
LONGEST_ADDRESS = 2_000  # characters
LONGEST_TOKEN = 4_000  # characters: some servers and mail programs cut addresses off from 8,000 on
MOST_DECISIONS = 5  # of one email
_ID_BYTES = 4
_SECRET_BYTES = 32
_SIGNATURE_BYTES = 16
_NO_ADDRESS = "-"
_KEY = re.compile(rf"{KEY_PREFIX}(?P<id>[0-9a-f]{{8}})_(?P<secret>[A-Za-z0-9_\-]{{43}})")
_DECISION = re.compile(r"[\x21-\x7e]{1,128}")
# Exactly what every browser reads as we do: no user, no backslash, no space, nothing to be decoded.
_ADDRESS = re.compile(
    r"https?://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?"
    r"(?:[/?#][\x21-\x5b\x5d-\x7e]*)?",
    re.IGNORECASE,
)
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.(?={_LABEL}\.))?{_LABEL}(?:\.{_LABEL})*")


class BadToken(BanditsError):
    """A text is no token of ours, or its signature is wrong."""


class TokenKind(StrEnum):
    """Kind of a link; its letter in tokens."""

    CLICK = "c"
    OPEN = "o"
    UNSUBSCRIBE = "u"
    HONEYPOT = "h"
    """A link that no person can see."""


class TrackingKey(Struct, frozen=True):
    """Key that tokens are signed with.

    Attributes:
        id: eight hexadecimal digits, which are in each token.
        secret: 256 random bits as text.
    """

    id: str
    secret: str

    def __repr__(self) -> str:
        """Return the id alone: no log has the secret."""
        return f"TrackingKey({self.id})"

    @classmethod
    def generate(cls) -> Self:
        """Make a key at random."""
        return cls(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key as it was shown when it was made.

        Raises:
            InvalidInput: it is none.
        """
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise InvalidInput.at("", f"is no tracking key; one begins with {KEY_PREFIX}")
        return cls(match["id"], match["secret"])

    @property
    def text(self) -> str:
        """The key as it is handed over: with its secret."""
        return f"{KEY_PREFIX}{self.id}_{self.secret}"


class TrackingToken(Struct, frozen=True):
    """Content of a token.

    Attributes:
        kind: what the link is for.
        decision_ids: of the email, at least one.
        address: that the link leads to; empty where it leads nowhere.
    """

    kind: TokenKind
    decision_ids: tuple[str, ...]
    address: str = ""

    def sign(self, key: TrackingKey) -> str:
        """Return the token, for an address of the server.

        Raises:
            InvalidInput: a decision's id or the address cannot be in a token.
        """
        bad = [i for i in self.decision_ids if not _DECISION.fullmatch(i)]
        if bad or not 0 < len(self.decision_ids) <= MOST_DECISIONS:
            raise InvalidInput.at(
                "/decision_ids",
                f"must be 1 to {MOST_DECISIONS} ids of decisions: printable ASCII without spaces",
            )
        if self.address and host_of(self.address) is None:
            raise InvalidInput.at("/address", "must be an http(s) address in ASCII")
        parts = (self.kind.value, self.address or _NO_ADDRESS, *self.decision_ids)
        content = _encode(" ".join(parts).encode())
        return f"{key.id}.{content}.{_encode(_signature(key.secret, content))}"


class SignedToken(Struct, frozen=True):
    """A token as it came, not proved yet; `key_id` says which key proves it."""

    key_id: str
    content: str
    signature: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a token apart.

        Raises:
            BadToken: it has not the form of one.
        """
        parts = text.split(".", 3) if len(text) <= LONGEST_TOKEN else []
        if len(parts) != 3 or not text.isascii():  # noqa: PLR2004 - the parts of a token
            raise BadToken("a token has three parts")
        return cls(*parts)

    def verify(self, secret: str) -> TrackingToken:
        """Prove a token by the secret of its key, in constant time, and read it.

        Raises:
            BadToken: it was not signed with that secret.
        """
        expected = _encode(_signature(secret, self.content))
        if not hmac.compare_digest(expected, self.signature):
            raise BadToken("the signature is wrong")
        try:
            kind, address, *ids = urlsafe_b64decode(_padded(self.content)).decode().split(" ")
            return TrackingToken(
                TokenKind(kind), tuple(ids), "" if address == _NO_ADDRESS else address
            )
        except (Error, ValueError):
            raise BadToken("the content is of another version") from None


def host_of(address: str) -> str | None:
    """Return the host of an address in small letters; None if it is none that may be signed.

    It has to be ``http`` or ``https``, in printable ASCII, without user or backslash, and of at
    most 2,000 characters, so that no browser takes it for another one.
    """
    match = _ADDRESS.fullmatch(address) if len(address) <= LONGEST_ADDRESS else None
    return None if match is None else match["host"].lower()


def is_host_rule(text: str) -> bool:
    """Return True for a host, or ``*.`` and a host for all those below it, in small letters."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None  # noqa: PLR2004 - of DNS


def allows(host_rules: Collection[str], address: str) -> bool:
    """Return True for an address whose host one of the rules names.

    Args:
        host_rules: ``shop.example`` allows that host, ``*.shop.example`` every host below it.
        address: that a link leads to.
    """
    host = host_of(address)
    if host is None:
        return False
    if host in host_rules:
        return True
    labels = host.split(".")
    return any(f"*.{'.'.join(labels[i:])}" in host_rules for i in range(1, len(labels)))


def _signature(secret: str, content: str) -> bytes:
    return hmac.digest(secret.encode(), content.encode(), sha256)[:_SIGNATURE_BYTES]


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
