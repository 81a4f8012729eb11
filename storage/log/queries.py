"""Queries of the log: single decisions, their events, and the newest of each recipient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Select, desc, select

from bandits.array_types import FloatArray
from bandits.machines import EventTrace
from bandits.store.values import Event, ExperimentRecord, StoredDecision
from storage.databases import NamedRow, Transaction
from storage.schema import (
    CHOSEN,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    experiments,
    of_batch,
    subjects,
)

_AT_ONCE = 20_000  # ids in one statement
_ALWAYS_ONE = np.ones(1)
_ALWAYS_ONE.flags.writeable = False

activated = batches.alias("activated")  # batches of the activations that `with_marks` joins
_cancelled = batches.alias("cancelled")


def with_marks(*columns: Any) -> Select[Any]:
    """Select columns of decisions, with their batch, experiment, activation and cancellation."""
    joined = (
        decisions.join(batches, batches.c.id == batch_of)
        .join(experiments, experiments.c.id == batches.c.experiment_id)
        .outerjoin(activations, activations.c.decision == decisions.c.serial)
        .outerjoin(activated, activated.c.id == activations.c.batch_id)
        .outerjoin(cancellations, cancellations.c.decision == decisions.c.serial)
        .outerjoin(_cancelled, _cancelled.c.id == cancellations.c.batch_id)
    )
    return select(*columns).select_from(joined)


_STORED = with_marks(
    decisions.c.id,
    experiments.c.key,
    batches.c.configuration_version,
    batches.c.policy_version,
    decisions.c.arm,
    decisions.c.propensity,
    decisions.c.context,
    decisions.c.holdout,
    decisions.c.fallback,
    decisions.c.eligible_set,
    decisions.c.digest,
    batches.c.created_at.label("made_at"),
    batches.c.due_at,
    activated.c.created_at.label("activated_at"),
    _cancelled.c.created_at.label("cancelled_at"),
    decisions.c.shipped,
    batches.c.actor,
)


def read_decisions(transaction: Transaction, ids: Sequence[str]) -> dict[str, StoredDecision]:
    """Read the decisions that exist among these ids."""
    stored = {}
    for start in range(0, len(ids), _AT_ONCE):
        condition = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
        for row in transaction.execute(_STORED.where(condition)).all():
            stored[row[0]] = _stored(row)
    return stored


def read_numbered(transaction: Transaction, serials: Sequence[int]) -> list[StoredDecision]:
    """Read the decisions of these serials, in the order of their serials."""
    stored: list[StoredDecision] = []
    for start in range(0, len(serials), _AT_ONCE):
        condition = transaction.is_any(decisions.c.serial, serials[start : start + _AT_ONCE])
        rows = transaction.execute(_STORED.where(condition).order_by(decisions.c.serial))
        stored += [_stored(row) for row in rows]
    return stored


def read_latest(transaction: Transaction, experiment_id: int, limit: int) -> list[StoredDecision]:
    """Read the decisions of an experiment that were made last, the newest first.

    Only as many of its newest batches of decisions are read as have that many rows, however many
    batches of rewards have come since.
    """
    newest = (
        select(batches.c.id, batches.c.size)
        .where(batches.c.experiment_id == experiment_id, CHOSEN)
        .order_by(batches.c.created_at.desc(), batches.c.id.desc())
        .limit(limit)
    )
    batch_ids, size = [], 0
    for row in transaction.execute(newest):
        batch_ids.append(row.id)
        size += row.size
        if size >= limit:
            break
    rows = select(decisions.c.serial).where(of_batch(batches.c.id))
    serials = transaction.join_each(batches, [], rows).where(batches.c.id.in_(batch_ids))
    query = serials.order_by(desc("serial")).limit(limit)
    return read_numbered(transaction, list(transaction.execute(query).scalars()))[::-1]


def _stored(row: NamedRow) -> StoredDecision:
    (
        decision_id,
        experiment,
        configuration_version,
        policy_version,
        arm,
        propensity,
        context,
        holdout,
        fallback,
        restriction,
        digest,
        made_at,
        due_at,
        activated_at,
        cancelled_at,
        shipped,
        actor,
    ) = row
    return StoredDecision(
        decision_id,
        experiment,
        configuration_version,
        policy_version,
        arm,
        propensity,
        _unpack_context(context),
        holdout,
        fallback,
        restriction or b"",
        digest or b"",
        made_at,
        activated_at if due_at is None else made_at,
        cancelled_at,
        shipped,
        actor,
    )


def _unpack_context(packed: bytes | None) -> FloatArray:
    if packed is None:
        return _ALWAYS_ONE
    return np.frombuffer(packed, dtype="<f8").astype(np.float64, copy=False)


def read_events(transaction: Transaction, decision_id: str) -> list[Event]:
    """Read a decision's events in order of their time."""
    columns = (
        decisions.c.id,
        events.c.event_id,
        events.c.metric,
        events.c.value,
        events.c.occurred_at,
        events.c.late,
        *(events.c[name] for name in EventTrace._fields),
    )
    query = (
        select(*columns)
        .join(decisions, decisions.c.serial == events.c.decision)
        .where(decisions.c.id == decision_id)
        .order_by(events.c.occurred_at, events.c.event_id)
    )
    return [_event(row) for row in transaction.execute(query)]


def _event(row: NamedRow) -> Event:
    """Make an event of a row: its own columns, and those of its trace where it has one."""
    trace = EventTrace(*row[-len(EventTrace._fields) :])
    own = (row.id, row.event_id, row.metric, row.value, row.occurred_at, row.late)
    return Event(*own, None if row.kind is None else trace)


def newest_decisions(
    transaction: Transaction, record: ExperimentRecord, hashes: Sequence[bytes]
) -> dict[bytes, str]:
    """Return the newest decision of each subject in an experiment, by the subject's hash.

    Where each subject has one decision, it is looked up; else the experiment's log is read once
    for all of them, at most 10,000, as many as a statement takes.
    """
    if record.configuration.experiment.assignment == "per_subject":
        query = select(subjects.c.subject, subjects.c.decision_id).where(
            subjects.c.experiment_id == record.id, subjects.c.subject.in_(hashes)
        )
    else:
        rows = select(decisions.c.subject, decisions.c.id, decisions.c.serial).where(
            of_batch(batches.c.id), decisions.c.subject.in_(hashes)
        )
        joined = transaction.join_each(batches, [], rows)
        query = joined.where(batches.c.experiment_id == record.id).order_by("serial")
    return {row.subject: row[1] for row in transaction.execute(query)}
