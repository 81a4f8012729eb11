"""Signatures of Standard Webhooks (standardwebhooks.com), which Svix and its customers use too."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from hmac import digest
from typing import Any

from webapp.signals.comparison import is_one_of
from webapp.signals.connection_kind import FieldValues, ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import decoded_object, number_of
from webapp.signals.signal_event import SignalBatch, SignalEvent, read_batch

SECRET_PREFIX = "whsec_"  # noqa: S105 - begins every secret, and is none
TOLERANCE = timedelta(minutes=5)
_SHORTEST = 16  # bytes
_BRANDS = ("webhook", "svix")
SIGNATURE_HEADERS = tuple(f"{brand}-signature" for brand in _BRANDS)
PROOF = (
    "The sender signs the delivery's id, its time and the raw body (HMAC, Standard Webhooks). A"
    " signature older than five minutes is refused, because each retry has a new one."
)


def secret_fault(text: str) -> str | None:
    """Return what is wrong with a signing secret, None if nothing is."""
    if len(_key(text)) < _SHORTEST:
        return f"must be {SECRET_PREFIX} and at least {_SHORTEST} bytes in base64"
    return None


def read_alone(
    delivery: Delivery, read: Callable[[str | None, Any], Iterable[SignalEvent]]
) -> SignalBatch:
    """Read a delivery of one event, whose id is the delivery's own.

    Args:
        delivery: proved.
        read: the events of an id and the body's object, as `read_batch` takes them.
    """
    own_id = _header(delivery, "id")
    kept = Delivery("POST", {} if own_id is None else {"webhook-id": own_id}, delivery.body)
    return read_batch([decoded_object(delivery.body)], partial(read, own_id), lambda _: kept)


def verify_standard_signature(
    delivery: Delivery, values: FieldValues, context: ProofContext
) -> None:
    """Check the HMAC-SHA256 over id, timestamp and raw body by one of ``signing_secret``.

    Raises:
        DeliveryRefused: it is missing, wrong or too old.
    """
    own_id, timestamp = _header(delivery, "id"), _header(delivery, "timestamp")
    signatures = _header(delivery, "signature")
    if not own_id or not timestamp or not signatures:
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_MISSING,
            "the headers webhook-id, webhook-timestamp and webhook-signature are needed",
        )
    signed = f"{own_id}.{timestamp}.".encode("utf-8", "replace") + delivery.body
    actual = [part[3:] for part in signatures.split(" ") if part.startswith("v1,")]
    keys = [key for text in values["signing_secret"] if (key := _key(text))]
    expected = [b64encode(digest(key, signed, sha256)) for key in keys]
    if not any(is_one_of(one, expected) for one in actual):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG, "the delivery is not signed by the signing secret"
        )
    _check_age(timestamp, context.now)


def _check_age(timestamp: str, now: datetime) -> None:
    """Refuse a time that is far from now; `timestamp` is signed, in seconds since 1970."""
    if abs(now.timestamp() - (number_of(timestamp) or 0)) > TOLERANCE.total_seconds():
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_STALE,
            "the delivery was signed more than five minutes from this server's time",
        )


def _header(delivery: Delivery, name: str) -> str | None:
    for brand in _BRANDS:
        if value := delivery.headers.get(f"{brand}-{name}"):
            return value
    return None


def _key(text: str) -> bytes:
    """Decode a secret; empty if it is none."""
    try:
        return b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return b""
