"""Waiting events: reported before their decision was made or activated, kept for a day.

Mailers and shops tell of what happened before the program that sends has told of the sending. Such
an event is recorded once its decision's clock runs, and dropped where that never comes. Those of
connections wait in `storage.connections.unmatched_events`.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, func, or_, select

from bandits.actors import Actor
from bandits.errors import IdReused
from bandits.machines import EventTrace
from bandits.store.values import KeptEvent, WaitingEvent
from storage.databases import NamedRow, Transaction
from storage.schema import (
    TRACE_FORMAT,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    waiting_events,
)
from storage.stored_format import pack_blob

WAITING_SECONDS = 86_400.0  # that an event waits
MOST_WAITING = 100_000  # of one actor
_COLUMNS = (
    "actor",
    "decision_id",
    "event_id",
    "metric",
    "value",
    "occurred_at",
    "received_at",
    "trace",
    "as_of",
)
_READY = (
    select(waiting_events)
    .join(decisions, decisions.c.id == waiting_events.c.decision_id)
    .join(batches, batches.c.id == batch_of)
    .outerjoin(activations, activations.c.decision == decisions.c.serial)
    .outerjoin(cancellations, cancellations.c.decision == decisions.c.serial)
    .where(
        or_(
            batches.c.due_at.is_not(None),
            activations.c.decision.is_not(None),
            cancellations.c.decision.is_not(None),
        )
    )
)


def keep_waiting(
    transaction: Transaction, new: Sequence[WaitingEvent], *, actor: Actor, at: float
) -> list[int]:
    """Keep events of an actor, each once; return the positions for which there is no room.

    Raises:
        IdReused: some wait already with another metric, value or `as_of`, in the rows that it
            names.
    """
    earlier = _waiting(transaction, list({event.decision_id for event in new}))
    rows = []
    fresh: list[int] = []
    reused: list[int] = []
    for place, event in enumerate(new):
        key = event.decision_id, event.event_id
        content = event.metric, event.value, event.as_of
        if key not in earlier:
            earlier[key] = content
            fresh.append(place)
            packed = _pack(event.trace)
            values = (event.metric, event.value, event.occurred_at, at, packed, event.as_of)
            rows.append((actor, *key, *values))
        elif not _is_same(earlier[key], content):
            reused.append(place)
    if reused:
        raise IdReused("event", new[reused[0]].event_id, reused)
    room = max(MOST_WAITING - _count(transaction, actor), 0) if fresh else 0
    rows = sorted(rows[:room], key=lambda row: row[1:3])
    transaction.insert(waiting_events, _COLUMNS, rows)
    return fresh[room:]


def _is_same(
    earlier: tuple[str, float, float | None], content: tuple[str, float, float | None]
) -> bool:
    """Return true for the same event; its `as_of` is compared where both reports tell it."""
    return earlier[:2] == content[:2] and (earlier[2] is None or content[2] in {earlier[2], None})


def _waiting(
    transaction: Transaction, ids: Sequence[str]
) -> dict[tuple[str, str], tuple[str, float, float | None]]:
    """Read metric, value and `as_of` of the events that wait for decisions, by both their ids."""
    query = select(
        waiting_events.c.decision_id,
        waiting_events.c.event_id,
        waiting_events.c.metric,
        waiting_events.c.value,
        waiting_events.c.as_of,
    ).where(transaction.is_any(waiting_events.c.decision_id, ids))
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in transaction.execute(query)}


def _count(transaction: Transaction, actor: Actor) -> int:
    query = select(func.count()).select_from(waiting_events)
    count: int = transaction.execute(query.where(waiting_events.c.actor == actor)).scalar_one()
    return count


def read_ready(transaction: Transaction, *, limit: int) -> list[KeptEvent]:
    """Read events whose decisions' clocks run by now or never will, those of an actor together."""
    query = _READY.order_by(waiting_events.c.actor, waiting_events.c.id).limit(limit)
    return [_event(row) for row in transaction.execute(query)]


def remove_waiting(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete events by their numbers."""
    condition = transaction.is_any(waiting_events.c.id, numbers)
    transaction.execute(delete(waiting_events).where(condition))


def remove_expired(transaction: Transaction, *, at: float) -> list[Actor]:
    """Delete the events that have waited for too long at a time; return the actor of each."""
    query = delete(waiting_events).where(waiting_events.c.received_at < at - WAITING_SECONDS)
    return [
        Actor(a) for a in transaction.execute(query.returning(waiting_events.c.actor)).scalars()
    ]


def read_of_decisions(transaction: Transaction, ids: Sequence[str]) -> list[KeptEvent]:
    """Read the events that wait for any of these decisions."""
    condition = transaction.is_any(waiting_events.c.decision_id, ids)
    query = select(waiting_events).where(condition).order_by(waiting_events.c.id)
    return [_event(row) for row in transaction.execute(query)]


def drop_waiting(
    transaction: Transaction, keys: Sequence[tuple[str, str]], *, actor: Actor | None
) -> list[tuple[str, str]]:
    """Delete events by decision and event id, one actor's if given; return those there were."""
    ids = list({decision_id for decision_id, _ in keys})
    condition = transaction.is_any(waiting_events.c.decision_id, ids)
    columns = (waiting_events.c.id, waiting_events.c.decision_id, waiting_events.c.event_id)
    query = select(*columns).where(condition)
    if actor is not None:
        query = query.where(waiting_events.c.actor == actor)
    rows = [row for row in transaction.execute(query) if (row[1], row[2]) in set(keys)]
    remove_waiting(transaction, [row[0] for row in rows])
    return [(row[1], row[2]) for row in rows]


def erase_of_decisions(transaction: Transaction, ids: Sequence[str]) -> int:
    """Delete the events that wait for any of these decisions; return how many there were."""
    condition = transaction.is_any(waiting_events.c.decision_id, ids)
    return transaction.execute(delete(waiting_events).where(condition)).rowcount


def _event(row: NamedRow) -> KeptEvent:
    trace = None
    if row.trace is not None:
        trace = msgspec.msgpack.decode(row.trace, type=EventTrace)
    event = WaitingEvent(
        row.decision_id, row.event_id, row.metric, row.value, row.occurred_at, trace, row.as_of
    )
    return KeptEvent(row.id, Actor(row.actor), row.received_at, event)


def _pack(trace: EventTrace | None) -> bytes | None:
    """Encode a trace as the column holds it; rows are inserted past its type."""
    if trace is None:
        return None
    return pack_blob(msgspec.msgpack.encode(trace), TRACE_FORMAT)
