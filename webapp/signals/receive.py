"""Receive a delivery: bounds first, then its proof over the raw bytes, and only then its events."""

from datetime import datetime

from webapp.signals.certificates import CertificateCache
from webapp.signals.connection_kind import ConnectionKind, FieldValues, ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.signal_event import SignalBatch


def receive(
    kind: ConnectionKind,
    delivery: Delivery,
    values: FieldValues,
    *,
    now: datetime,
    certificates: CertificateCache,
) -> SignalBatch:
    """Prove and read a delivery; where the sender asks for it, confirm the subscription.

    To read a kept delivery again, call ``kind.parse`` alone: it was proved when it came.

    Args:
        kind: of the connection that it was sent to.
        delivery: as it came.
        values: of the connection's fields.
        now: aware.
        certificates: one for the whole process.

    Raises:
        DeliveryRefused: with the cause, of which ``kind.answer`` makes the answer.
    """
    if delivery.method in kind.probes:
        return SignalBatch()
    if delivery.method != "POST":
        raise DeliveryRefused(RefusalCause.METHOD, f"{delivery.method} is not taken, POST is")
    _check_body(kind, delivery)
    kind.verify(delivery, values, ProofContext(now, certificates))
    batch = kind.parse(delivery)
    if batch.confirmation is not None:
        certificates.get(batch.confirmation)
    return batch


def check_head(
    kind: ConnectionKind, head: Delivery, values: FieldValues, context: ProofContext
) -> None:
    """Refuse a delivery by its headers alone, before its body is read.

    Args:
        kind: of the connection that it was sent to.
        head: without the body.
        values: of the connection's fields.
        context: of the proof.

    Raises:
        DeliveryRefused: its type is none of the kind's, a password is wrong, or what signs the body
            is missing.
    """
    _check_type(kind, head)
    unsigned = kind.proof_headers and not any(map(head.headers.get, kind.proof_headers))
    if kind.password or unsigned:
        kind.verify(head, values, context)


def _check_body(kind: ConnectionKind, delivery: Delivery) -> None:
    """Refuse a body that is too large, or not of the kind's types."""
    size = len(delivery.body)
    if size > kind.max_body_bytes:
        raise DeliveryRefused(
            RefusalCause.TOO_LARGE, f"{size:,} bytes; at most {kind.max_body_bytes:,} are taken"
        )
    _check_type(kind, delivery)


def _check_type(kind: ConnectionKind, delivery: Delivery) -> None:
    """Refuse a body that is not of the kind's types."""
    if delivery.media_type not in kind.media_types:
        expected = " or ".join(kind.media_types)
        actual = delivery.media_type[:100] or "none"
        raise DeliveryRefused(RefusalCause.MEDIA_TYPE, f"expected {expected}, got {actual}")
    encoding = delivery.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise DeliveryRefused(RefusalCause.MEDIA_TYPE, "compressed bodies are not taken")
