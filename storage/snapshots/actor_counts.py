"""Actor counts: rows that each actor wrote to the log of an experiment, added up by folds.

They say who did anything at all, and when, without a scan of the log. What is void is not in them;
rows that are erased or removed later stay counted.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Select,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    update,
)

from bandits.actors import Actor, actor_of
from bandits.inference.sender_checks import excuses
from bandits.store.values import ActorCounts, Deeds, ExperimentRecord
from storage.databases import STATEMENTS_KEPT, NamedRow, Transaction
from storage.schema import actor_counts, batch_of, batches, cancellations, decisions, events
from storage.snapshots.voids import Voids

_cancelling = batches.alias("cancelling")
# By the kind of a batch.
_COLUMNS = {
    "choose": "chosen",
    "activate": "activated",
    "reward": "rewarded",
    "cancel": "cancelled",
}
_AT_ONCE = 10_000  # decisions in one statement
_NAMES = (*_COLUMNS.values(), "answered")
_READ = select(
    actor_counts.c.actor,
    actor_counts.c.first_at,
    actor_counts.c.last_at,
    *(actor_counts.c[name] for name in _NAMES),
)


# Every fold runs it, so it is made once, and gets its values here.
_FIRST, _LAST = (bindparam(name, type_=Double) for name in ("first", "last"))
_ADD = (
    update(actor_counts)
    .where(
        actor_counts.c.experiment_id == bindparam("of_experiment"),
        actor_counts.c.actor == bindparam("of_actor"),
    )
    .values(
        {name: actor_counts.c[name] + bindparam(f"more_{name}", type_=Integer) for name in _NAMES}
        | {
            "first_at": case(
                (actor_counts.c.first_at > _FIRST, _FIRST), else_=actor_counts.c.first_at
            ),
            "last_at": case((actor_counts.c.last_at < _LAST, _LAST), else_=actor_counts.c.last_at),
        }
    )
    .returning(actor_counts.c.actor)
)


def read_actors(transaction: Transaction, record: ExperimentRecord) -> list[ActorCounts]:
    """Read the counts of every actor of an experiment, by actor."""
    query = _READ.where(actor_counts.c.experiment_id == record.id).order_by(actor_counts.c.actor)
    return [ActorCounts(*row) for row in transaction.execute(query)]


def count_rows(
    transaction: Transaction, record: ExperimentRecord, rows: Sequence[NamedRow], sign: int = 1
) -> None:
    """Add the rows of batches to their actors' counts, or take them off where `sign` is −1.

    Args:
        transaction: one that writes.
        record: the experiment; its lock must be held.
        rows: `kind`, `size`, `created_at` and `actor` of each batch.
        sign: 1 or −1.
    """
    counts: defaultdict[Actor, Counter[str]] = defaultdict(Counter)
    times: defaultdict[Actor, list[float]] = defaultdict(list)
    for row in rows:
        if row.actor is not None:
            counts[row.actor][_COLUMNS[row.kind]] += sign * row.size
            times[row.actor].append(row.created_at)
    for actor in sorted(counts):
        _add(transaction, record, actor, counts[actor], times[actor])


def count_answered(
    transaction: Transaction, record: ExperimentRecord, cancels: Sequence[int], voids: Voids
) -> None:
    """Count decisions that batches cancel after an event of theirs, by who had asked for them.

    An event that excuses it does not count: `bandits.inference.sender_checks.excuses`. Neither does
    a cancellation by a connection, which takes out what bounced for its address, whatever came of
    it; health tells the number of these.
    """
    query = _answered_in_force(voids, excuses(record.configuration.experiment.reward))
    for actor, count in transaction.execute_any(query, cancellations.c.batch_id, cancels).all():
        _add(transaction, record, actor, Counter(answered=count), ())


def move_answered(
    transaction: Transaction,
    record: ExperimentRecord,
    deeds: Deeds,
    serials: Sequence[int],
    sign: int,
) -> None:
    """Add those among the decisions of `deeds`, or take them off where `sign` is −1.

    Args:
        transaction: one that writes.
        record: the experiment; its lock must be held.
        deeds: an actor's.
        serials: of the decisions, and of any others.
        sign: 1 or −1.
    """
    own = (
        batches.c.actor == deeds.actor,
        batches.c.created_at >= deeds.since,
        batches.c.created_at < deeds.until,
    )
    for start in range(0, len(serials), _AT_ONCE):
        portion = serials[start : start + _AT_ONCE]
        of_portion = transaction.is_any(cancellations.c.decision, portion)
        query = _answered(excuses(record.configuration.experiment.reward), of_portion, *own)
        for actor, count in transaction.execute(query).all():
            _add(transaction, record, actor, Counter(answered=sign * count), ())


def _answered(excused: Sequence[str], *conditions: ColumnElement[bool]) -> Select[Any]:
    """Select actors, and how many of the decisions they asked for were cancelled too late."""
    event = exists().where(
        events.c.decision == cancellations.c.decision,
        events.c.batch_id < cancellations.c.batch_id,
        ~events.c.late,
        events.c.metric.not_in(excused),
    )
    by_connection = func.coalesce(_cancelling.c.actor, "").startswith(actor_of("connection", ""))
    return (
        select(batches.c.actor, func.count())
        .select_from(cancellations)
        .join(decisions, decisions.c.serial == cancellations.c.decision)
        .join(batches, batches.c.id == batch_of)
        .join(_cancelling, _cancelling.c.id == cancellations.c.batch_id)
        .where(*conditions, event, batches.c.actor.is_not(None), ~by_connection)
        .group_by(batches.c.actor)
    )


@lru_cache(STATEMENTS_KEPT)
def _answered_in_force(voids: Voids, excused: tuple[str, ...]) -> Select[Any]:
    return _answered(excused, *voids.outside(batches))


def _add(
    transaction: Transaction,
    record: ExperimentRecord,
    actor: Actor,
    counts: Mapping[str, int],
    times: Sequence[float],
) -> None:
    """Add counts, of rows that were written at these times, to an actor's."""
    place = {"of_experiment": record.id, "of_actor": actor}
    added = {f"more_{name}": counts.get(name, 0) for name in _NAMES}
    span = {"first": min(times, default=inf), "last": max(times, default=-inf)}
    if transaction.execute(_ADD, {**place, **added, **span}).first() is None and times:
        row: dict[str, Any] = dict.fromkeys(_NAMES, 0) | dict(counts)
        row |= {"experiment_id": record.id, "actor": actor}
        row |= {"first_at": min(times), "last_at": max(times)}
        transaction.execute(insert(actor_counts), row)
