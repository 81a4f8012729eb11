"""Unmatched events: their decision does not exist yet, or waits for its activation.

Mailers report some events before the sender has told us of the sending. Such an event waits, and is
recorded once its decision's clock runs. It waits for a decision by its id, or for the decisions
that an email was sent for, by the mailer's id of that.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import delete, func, or_, select

from bandits.machines import EventTrace
from storage.databases import NamedRow, Transaction
from storage.schema import (
    TRACE_FORMAT,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    message_ids,
    unmatched_events,
)
from storage.stored_format import pack_blob

UNMATCHED_SECONDS = 86_400.0  # that an event waits
MOST_UNMATCHED = 100_000  # of one connection
_COLUMNS = (
    "connection_id",
    "decision_id",
    "event_id",
    "metric",
    "value",
    "occurred_at",
    "received_at",
    "mark",
    "message_id",
    "trace",
    "as_of",
    "address_bounce",
)
_SETTLED = or_(  # the clock runs, or never will
    batches.c.due_at.is_not(None),
    activations.c.decision.is_not(None),
    cancellations.c.decision.is_not(None),
)
_READY = (
    select(unmatched_events)
    .join(decisions, decisions.c.id == unmatched_events.c.decision_id)
    .join(batches, batches.c.id == batch_of)
    .outerjoin(activations, activations.c.decision == decisions.c.serial)
    .outerjoin(cancellations, cancellations.c.decision == decisions.c.serial)
    .where(_SETTLED)
)
_READY_BY_MESSAGE = (
    select(unmatched_events, decisions.c.id.label("matched_id"))
    .join(message_ids, message_ids.c.message_id == unmatched_events.c.message_id)
    .join(decisions, decisions.c.serial == message_ids.c.decision)
    .join(batches, batches.c.id == batch_of)
    .outerjoin(activations, activations.c.decision == decisions.c.serial)
    .outerjoin(cancellations, cancellations.c.decision == decisions.c.serial)
    .where(_SETTLED)
)


class NewUnmatchedEvent(Struct, frozen=True):
    """Event to be kept until its decision's clock runs.

    Attributes:
        decision_id: empty where it waits for a message id.
        occurred_at: seconds since 1970.
        recipient: as the sender names them, empty where it does not; only a mark is stored.
        body: of the refusal that it becomes where there is no room for it.
        message_id: the mailer's id of the email, where it waits for that.
        trace: of the request behind an open or a click.
        as_of: when its value became the current one, where that was told.
        address_bounce: it is a bounce for which the address is the reason.
    """

    decision_id: str
    event_id: str
    metric: str
    value: float
    occurred_at: float
    recipient: str
    body: bytes
    message_id: str | None = None
    trace: EventTrace | None = None
    as_of: float | None = None
    address_bounce: bool = False


class UnmatchedEvent(Struct, frozen=True):
    """Event that waits for its decision; times are seconds since 1970.

    Attributes:
        decision_id: empty where it waits for a message id.
        message_id: the mailer's id of the email, where it waits for that.
    """

    id: int
    connection_id: int
    decision_id: str
    event_id: str
    metric: str
    value: float
    occurred_at: float
    received_at: float
    message_id: str | None = None
    trace: EventTrace | None = None
    as_of: float | None = None
    address_bounce: bool = False


def insert_unmatched(
    transaction: Transaction,
    connection_id: int,
    new: Sequence[tuple[NewUnmatchedEvent, bytes | None]],
    *,
    at: float,
) -> int:
    """Insert events with the marks of their recipients, each once; return how many are new."""
    rows = []
    for e, mark in new:
        key = (connection_id, e.decision_id, e.event_id)
        values = (e.metric, e.value, e.occurred_at, at, mark, e.message_id, _pack(e.trace))
        rows.append((*key, *values, e.as_of, e.address_bounce))
    rows.sort(key=lambda row: row[1:3])
    return transaction.insert(unmatched_events, _COLUMNS, rows)


def count_unmatched(transaction: Transaction, connection_id: int) -> int:
    """Count the events of a connection that wait."""
    condition = unmatched_events.c.connection_id == connection_id
    query = select(func.count()).select_from(unmatched_events).where(condition)
    count: int = transaction.execute(query).scalar_one()
    return count


def read_ready(transaction: Transaction, connection_id: int, *, limit: int) -> list[UnmatchedEvent]:
    """Read events of a connection whose decisions' clocks run by now, the oldest first.

    One that waits for a message id comes once for each decision of the email.
    """
    of_connection = unmatched_events.c.connection_id == connection_id
    ordered = (unmatched_events.c.id, decisions.c.serial)
    query = _READY.where(of_connection).order_by(*ordered).limit(limit)
    ready = [_event(row) for row in transaction.execute(query)]
    query = _READY_BY_MESSAGE.where(of_connection).order_by(*ordered).limit(limit)
    rows = transaction.execute(query).all()
    if len(rows) == limit:  # the last event may have more decisions
        rows = [row for row in rows if row.id != rows[-1].id] or rows
    return ready + [replace(_event(row), decision_id=row.matched_id) for row in rows]


def _event(row: NamedRow) -> UnmatchedEvent:
    columns = {name: getattr(row, name) for name in UnmatchedEvent.__struct_fields__}
    if row.trace is not None:
        columns["trace"] = msgspec.msgpack.decode(row.trace, type=EventTrace)
    return UnmatchedEvent(**columns)


def _pack(trace: EventTrace | None) -> bytes | None:
    """Encode a trace as the column holds it; rows are inserted past its type."""
    if trace is None:
        return None
    return pack_blob(msgspec.msgpack.encode(trace), TRACE_FORMAT)


def remove_unmatched(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete events by their numbers."""
    condition = transaction.is_any(unmatched_events.c.id, numbers)
    transaction.execute(delete(unmatched_events).where(condition))


def remove_expired(transaction: Transaction, *, before: float) -> list[int]:
    """Delete the events that came before a time; return the connection of each."""
    query = delete(unmatched_events).where(unmatched_events.c.received_at < before)
    return list(transaction.execute(query.returning(unmatched_events.c.connection_id)).scalars())


def read_of_subject(
    transaction: Transaction, ids: Sequence[str], marks: Sequence[bytes]
) -> list[UnmatchedEvent]:
    """Read the events of a subject, by the ids of its decisions and the marks of its names."""
    of_decisions = transaction.is_any(unmatched_events.c.decision_id, ids)
    marked = unmatched_events.c.mark.in_(marks)
    events = {}
    for condition in (of_decisions, marked):
        query = select(unmatched_events).where(condition)
        events.update({row.id: _event(row) for row in transaction.execute(query)})
    return list(events.values())
