"""Tracking tokens: links of emails that say by themselves what they are of, signed by a key.

A token is ``KEY.CONTENT.SIGNATURE``: the key's id, the content in base64 for addresses, and the
first 16 bytes of its HMAC-SHA256 (RFC 2104) under the key's secret, in the same base64. The content
is a text of parts between spaces: a letter for the kind, the address that the link leads to or
``-``, and the ids of one or more decisions.

Where a server signs for somebody who has an API key, the key's number follows the letter, and the
secret is derived from the tracking key's by one that only the server has. So nobody else can sign
in the name of an API key, and what its links report can be told apart, and voided.
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
_SIGNER_DIGITS = 18
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
    EXPLANATION = "w"
    """The page "Why do I get this?"."""
    HONEYPOT = "h"
    """A link that no person can see."""


class TrackingKey(Struct, frozen=True):
    """Key that tokens are signed with.

    Attributes:
        id: eight hexadecimal digits, which are in each token.
        secret: 256 random bits as text.
        signer: number of the API key that a server signs for; 0 for a sender's own signatures.
    """

    id: str
    secret: str
    signer: int = 0

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

    def of_signer(self, signer: int, server_secret: bytes) -> Self:
        """Derive the key that a server signs with for an API key of this number."""
        message = f"{self.secret} {signer}".encode()
        digest = hmac.new(server_secret, message, sha256).digest()
        return type(self)(self.id, _encode(digest), signer)

    @property
    def text(self) -> str:
        """The key as it is handed over: with its secret."""
        return f"{KEY_PREFIX}{self.id}_{self.secret}"


class TrackingToken(Struct, frozen=True):
    """Content of a token.

    Attributes:
        kind: what the link is for.
        decision_ids: of the email, at least one; none where a server signed for a test key.
        address: that the link leads to; empty where it leads nowhere.
        signer: number of the API key that a server signed for; 0 where a sender signed by itself.
    """

    kind: TokenKind
    decision_ids: tuple[str, ...]
    address: str = ""
    signer: int = 0

    def sign(self, key: TrackingKey) -> str:
        """Return the token, for an address of the server.

        Raises:
            InvalidInput: a decision's id or the address cannot be in a token.
        """
        bad = [i for i in self.decision_ids if not _DECISION.fullmatch(i)]
        least = 0 if key.signer else 1
        if bad or not least <= len(self.decision_ids) <= MOST_DECISIONS:
            raise InvalidInput.at(
                "/decision_ids",
                f"must be 1 to {MOST_DECISIONS} ids of decisions: printable ASCII without spaces",
            )
        if self.address and host_of(self.address) is None:
            raise InvalidInput.at("/address", "must be an http(s) address in ASCII")
        kind = f"{self.kind.value}{key.signer or ''}"
        parts = (kind, self.address or _NO_ADDRESS, *self.decision_ids)
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

    @property
    def signer(self) -> int:
        """Number of the API key that a server signed for, as the token says; 0 if it names none.

        Raises:
            BadToken: its content is none of ours.
        """
        digits = self._parts()[0][1:]
        is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _SIGNER_DIGITS
        if digits and not (is_number and digits == str(int(digits)) and int(digits)):
            raise BadToken("the content is of another version")
        return int(digits or 0)

    def _parts(self) -> list[str]:
        try:
            return urlsafe_b64decode(_padded(self.content)).decode().split(" ")
        except (Error, ValueError):
            raise BadToken("the content is of another version") from None

    def verify(self, secret: str) -> TrackingToken:
        """Prove a token by the secret of its key, in constant time, and read it.

        Where it has a `signer`, that is the secret of `TrackingKey.of_signer`.

        Raises:
            BadToken: it was not signed with that secret.
        """
        expected = _encode(_signature(secret, self.content))
        if not hmac.compare_digest(expected, self.signature):
            raise BadToken("the signature is wrong")
        signer = self.signer
        try:
            kind, address, *ids = self._parts()
            address = "" if address == _NO_ADDRESS else address
            return TrackingToken(TokenKind(kind[:1]), tuple(ids), address, signer)
        except ValueError:
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
