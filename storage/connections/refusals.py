"""Refusals: events of verified deliveries that did not fit, with the reason and what was sent.

They are kept sealed for 30 days, at most 100 MB a connection, the oldest removed first.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from msgspec import Struct
from sqlalchemy import delete, select

from storage.connections.encryption import Cipher
from storage.connections.marks import Hasher, marks_in
from storage.databases import NamedRow, Transaction
from storage.schema import refusal_marks, refusals

REFUSAL_SECONDS = 30 * 86_400.0
MOST_BYTES = 100_000_000  # of one connection
_DIGEST_BYTES = 16
_PORTION = 500
_COLUMNS = ("connection_id", "digest", "received_at", "reason", "body", "size")


class NewRefusal(Struct, frozen=True):
    """Event that did not fit.

    Attributes:
        reason: for people.
        body: stored sealed, to be replayed.
        text: the part of it that may name a subject.
    """

    reason: str
    body: bytes
    text: bytes


class Refusal(Struct, frozen=True):
    """Event that did not fit.

    Attributes:
        received_at: seconds since 1970.
        size: of its stored body, in bytes.
    """

    id: int
    received_at: float
    reason: str
    size: int


def insert_refusals(  # noqa: PLR0913 - what is inserted, and what it is made with
    transaction: Transaction,
    connection_id: int,
    new: Sequence[NewRefusal],
    *,
    at: float,
    cipher: Cipher,
    hasher: Hasher,
) -> tuple[int, int]:
    """Insert events with the marks in them, each once; return how many are new, and their bytes."""
    inserted = total = 0
    by_digest = {sha256(r.body).digest()[:_DIGEST_BYTES]: r for r in new}
    for digest, refusal in sorted(by_digest.items()):
        sealed = cipher.seal(refusal.body)
        row = (connection_id, digest, at, refusal.reason, sealed, len(sealed))
        if not transaction.insert(refusals, _COLUMNS, [row]):
            continue
        condition = (refusals.c.connection_id == connection_id) & (refusals.c.digest == digest)
        number = transaction.execute(select(refusals.c.id).where(condition)).scalar_one()
        marks = [(mark, number) for mark in marks_in(hasher, refusal.text)]
        transaction.insert(refusal_marks, ("mark", "refusal_id"), marks)
        inserted += 1
        total += len(sealed)
    return inserted, total


def remove_oldest(transaction: Transaction, connection_id: int, excess: int) -> int:
    """Delete the oldest refusals until `excess` bytes are gone; return how many bytes went."""
    removed = 0
    while removed < excess:
        query = select(refusals.c.id, refusals.c.size)
        query = query.where(refusals.c.connection_id == connection_id).order_by(refusals.c.id)
        numbers = []
        for number, size in transaction.execute(query.limit(_PORTION)):
            if removed >= excess:
                break
            numbers.append(number)
            removed += size
        if not numbers:
            break
        remove_refusals(transaction, numbers)
    return removed


def remove_refusals(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete refusals by their numbers, with their marks."""
    condition = transaction.is_any(refusal_marks.c.refusal_id, numbers)
    transaction.execute(delete(refusal_marks).where(condition))
    transaction.execute(delete(refusals).where(transaction.is_any(refusals.c.id, numbers)))


def read_refusals(
    transaction: Transaction, connection_id: int, *, before: int | None, limit: int
) -> list[Refusal]:
    """Read the refusals of a connection, the newest first."""
    query = select(refusals.c.id, refusals.c.received_at, refusals.c.reason, refusals.c.size)
    query = query.where(refusals.c.connection_id == connection_id)
    if before is not None:
        query = query.where(refusals.c.id < before)
    rows = transaction.execute(query.order_by(refusals.c.id.desc()).limit(limit))
    return [Refusal(*row) for row in rows]


def read_expired(transaction: Transaction, *, before: float, limit: int) -> list[NamedRow]:
    """Read number, connection and size of refusals from before a time."""
    query = select(refusals.c.id, refusals.c.connection_id, refusals.c.size)
    query = query.where(refusals.c.received_at < before).order_by(refusals.c.received_at)
    return list(transaction.execute(query.limit(limit)).all())


def read_marked(transaction: Transaction, marks: Sequence[bytes]) -> list[NamedRow]:
    """Read the refusals that hold any of these marks."""
    numbers = select(refusal_marks.c.refusal_id).where(refusal_marks.c.mark.in_(marks))
    query = select(refusals).where(refusals.c.id.in_(numbers)).order_by(refusals.c.id)
    return list(transaction.execute(query).all())


def reseal(
    transaction: Transaction, *, after: int, limit: int, renew: Callable[[bytes], bytes]
) -> int | None:
    """Seal the next refusals anew; return the number of the last one, None where none is left."""
    query = select(refusals.c.id, refusals.c.body).where(refusals.c.id > after)
    rows = transaction.execute(query.order_by(refusals.c.id).limit(limit)).all()
    for number, body in rows:
        values = refusals.update().where(refusals.c.id == number).values(body=renew(body))
        transaction.execute(values)
    return rows[-1][0] if rows else None
