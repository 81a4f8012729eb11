"""Queries of the log: single decisions, their events, and the newest of each recipient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Select, desc, select

from bandits.array_types import FloatArray
from bandits.machines import EventTrace
from bandits.store.values import Event, StoredDecision
from storage.databases import NamedRow, Transaction
from storage.log.withdrawals import is_withdrawn, read_withdrawals
from storage.schema import (
    CHOSEN,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    experiments,
    former_ids,
    of_batch,
)
from storage.snapshots.voids import VoidLookup

_AT_ONCE = 20_000  # ids in one statement
_ALWAYS_ONE = np.ones(1)
_ALWAYS_ONE.flags.writeable = False

activated = batches.alias("activated")  # batches of the activations that `with_marks` joins
cancelled = batches.alias("cancelled")  # and of the cancellations


def with_marks(*columns: Any) -> Select[Any]:
    """Select columns of decisions, with their batch, experiment, activation and cancellation."""
    joined = (
        decisions.join(batches, batches.c.id == batch_of)
        .join(experiments, experiments.c.id == batches.c.experiment_id)
        .outerjoin(activations, activations.c.decision == decisions.c.serial)
        .outerjoin(activated, activated.c.id == activations.c.batch_id)
        .outerjoin(cancellations, cancellations.c.decision == decisions.c.serial)
        .outerjoin(cancelled, cancelled.c.id == cancellations.c.batch_id)
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
    cancelled.c.created_at.label("cancelled_at"),
    decisions.c.shipped,
    batches.c.actor,
    batches.c.experiment_id,
    experiments.c.voided,
    activated.c.actor.label("activated_by"),
    cancelled.c.actor.label("cancelled_by"),
    former_ids.c.id.label("former_id"),
).outerjoin(former_ids, former_ids.c.decision == decisions.c.serial)


def read_decisions(transaction: Transaction, ids: Sequence[str]) -> dict[str, StoredDecision]:
    """Read the decisions that exist among these ids."""
    stored = {}
    voids = VoidLookup(transaction)
    for start in range(0, len(ids), _AT_ONCE):
        condition = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
        for row in transaction.execute(_STORED.where(condition)).all():
            stored[row[0]] = _stored(row, voids)
    return stored


def read_numbered(transaction: Transaction, serials: Sequence[int]) -> list[StoredDecision]:
    """Read the decisions of these serials, in the order of their serials."""
    stored: list[StoredDecision] = []
    voids = VoidLookup(transaction)
    for start in range(0, len(serials), _AT_ONCE):
        condition = transaction.is_any(decisions.c.serial, serials[start : start + _AT_ONCE])
        rows = transaction.execute(_STORED.where(condition).order_by(decisions.c.serial)).all()
        stored += [_stored(row, voids) for row in rows]
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


def _stored(row: NamedRow, voids: VoidLookup) -> StoredDecision:
    """Make a decision of a row; an activation or a cancellation that is void is none."""
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
        experiment_id,
        voided,
        activated_by,
        cancelled_by,
        former_id,
    ) = row
    void = None
    if voided is not None:
        void = voids.number(experiment_id, actor, made_at)
        if activated_at is not None and voids.number(experiment_id, activated_by, activated_at):
            activated_at = None
        if cancelled_at is not None and voids.number(experiment_id, cancelled_by, cancelled_at):
            cancelled_at = None
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
        void,
        former_id,
    )


def _unpack_context(packed: bytes | None) -> FloatArray:
    if packed is None:
        return _ALWAYS_ONE
    return np.frombuffer(packed, dtype="<f8").astype(np.float64, copy=False)


_EVENTS = (
    select(
        decisions.c.id,
        decisions.c.serial,
        events.c.event_id,
        events.c.metric,
        events.c.value,
        events.c.occurred_at,
        events.c.late,
        batches.c.experiment_id,
        batches.c.actor,
        batches.c.created_at,
        experiments.c.voided,
        events.c.as_of,
        *(events.c[name] for name in EventTrace._fields),
    )
    .join_from(events, decisions, decisions.c.serial == events.c.decision)
    .join(batches, batches.c.id == events.c.batch_id)
    .join(experiments, experiments.c.id == batches.c.experiment_id)
    .order_by(events.c.occurred_at, events.c.event_id)
)


def read_events(transaction: Transaction, decision_id: str) -> list[Event]:
    """Read a decision's events in order of their time."""
    voids = VoidLookup(transaction)
    rows = transaction.execute(_EVENTS.where(decisions.c.id == decision_id)).all()
    numbers = sorted({row.serial for row in rows})
    withdrawn = read_withdrawals(transaction, numbers) if numbers else []
    return [_event(row, voids, withdrawn) for row in rows]


def read_times(
    transaction: Transaction, ids: Sequence[str], kind: str, since: float, until: float
) -> list[tuple[str, float]]:
    """Read the times of events whose ids are those of a kind of actor, each with its decision."""
    numbers = transaction.find_numbers(decisions.c.serial, decisions.c.id, ids)
    by_number = {number: i for i, number in zip(ids, numbers, strict=True) if number}
    query = select(events.c.decision, events.c.occurred_at).where(
        transaction.is_any(events.c.decision, sorted(by_number)),
        events.c.event_id >= f"{kind}:",
        events.c.event_id < f"{kind};",  # the character behind the colon
        events.c.occurred_at >= since,
        events.c.occurred_at < until,
    )
    return [(by_number[number], at) for number, at in transaction.execute(query)]


def _event(row: NamedRow, voids: VoidLookup, withdrawn: Sequence[NamedRow]) -> Event:
    """Make an event of a row: its own columns, whether it is void, and its trace if it has one."""
    own = (row.id, row.event_id, row.metric, row.value, row.occurred_at, row.late)
    void = (
        row.voided is not None
        and voids.number(row.experiment_id, row.actor, row.created_at) is not None
    )
    trace = EventTrace(*(getattr(row, name) for name in EventTrace._fields))
    taken_back = is_withdrawn(withdrawn, row.event_id, row.actor)
    trace_or_none = None if row.kind is None else trace
    return Event(*own, void, trace_or_none, withdrawn=taken_back, as_of=row.as_of)
