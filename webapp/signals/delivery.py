"""Delivery: one request of a sender as it came, and the causes for which it is refused."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

MAX_BODY_BYTES = 4 * 1024 * 1024  # SendGrid, whose batches are the largest, sends up to 768 kB
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Delivery(Struct, frozen=True):
    """One request of a sender, as it came.

    Attributes:
        method: ``POST``, or what a sender probes the address with.
        headers: by name in lower case.
        body: the very bytes, since signatures are over them.
    """

    method: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, method: str, headers: Iterable[tuple[str, str]], body: bytes) -> "Delivery":
        """Make one of headers in any case."""
        return cls(method, {name.lower(): value for name, value in headers}, body)

    @property
    def media_type(self) -> str:
        """The body's type without its parameters, in lower case; empty if none is declared."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class RefusalCause(StrEnum):
    """Cause of a refusal; it decides the status that the sender is answered with."""

    SIGNATURE_MISSING = "signature missing"
    SIGNATURE_WRONG = "signature wrong"
    SIGNATURE_STALE = "signature too old"
    UNREADABLE = "body unreadable"
    TOO_LARGE = "body too large"
    MEDIA_TYPE = "wrong content type"
    METHOD = "wrong method"
    UNAVAILABLE = "come again"


class DeliveryRefused(Exception):
    """A delivery is refused as a whole, and nothing of it is stored.

    Attributes:
        cause: decides the answer: `ConnectionKind.answer`.
        detail: for the person who set the connection up, without any of the body's content.
    """

    def __init__(self, cause: RefusalCause, detail: str) -> None:
        super().__init__(f"{cause.value}: {detail}")
        self.cause = cause
        self.detail = detail
