"""Void store: what actors did, taken out of learning and results, put back, counted and listed."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Select, case, exists, func, select

from bandits.array_types import IntArray
from bandits.errors import NotFound, WrongState
from bandits.store.values import ActorCounts, DeedCounts, Deeds, ExperimentRecord, VoidRecord
from storage.audit_log import record_change
from storage.databases import NamedRow, Transaction
from storage.deletion.retention import read_retained, removed_before
from storage.schema import (
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    eligible_set_uses,
    events,
    experiments,
    former_ids,
    of_batch,
    voids,
    withdrawals,
)
from storage.snapshots import backlog
from storage.snapshots.actor_counts import read_actors
from storage.snapshots.fold import SqlFold
from storage.snapshots.revision import Revision
from storage.snapshots.snapshots import SqlHistoryReader
from storage.snapshots.statements import drop_statements
from storage.snapshots.voids import Voids, deeds_of, read_voids, rows_in_force
from storage.store_context import StoreContext

_BATCHES_AT_ONCE = 5_000
_TOO_LARGE = 2**63  # for a column; nothing has such a number

_RECORDS = select(
    voids.c.id,
    func.coalesce(voids.c.call_id, voids.c.id).label("call"),
    voids.c.restores,
    experiments.c.key,
    voids.c.actor,
    voids.c.since,
    voids.c.until,
    voids.c.decisions,
    voids.c.created_at,
    voids.c.created_by,
    voids.c.experiment_id,
).join(experiments, experiments.c.id == voids.c.experiment_id)
_GIVEN_ON = (
    select(
        batches.c.experiment_id, batches.c.actor, batches.c.created_at, func.count().label("ids")
    )
    .select_from(former_ids)
    .join(decisions, decisions.c.serial == former_ids.c.decision)
    .join(batches, batches.c.id == batch_of)
    .group_by(batches.c.experiment_id, batches.c.actor, batches.c.created_at)
)


_GROUP = case((decisions.c.holdout, -1), else_=decisions.c.arm).label("arm_or_last")


class VoidStore:
    """Voids of what actors did: `bandits.store.VoidPort`."""

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context
        self._database = context.database

    def actors(self, key: str) -> list[ActorCounts]:
        """Count the rows that each actor wrote to the log of an experiment."""
        with self._database.reading() as transaction:
            return read_actors(transaction, self._context.experiments.read(transaction, key))

    def count(self, key: str, deeds: Deeds, *, now: float) -> DeedCounts:
        """Count what would become void."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            _refuse(transaction, record, deeds.since, now)
            revision = Revision(transaction, record, deeds, at=now, by="")
            return _Counter(transaction, record, deeds, revision).counts()

    @contextmanager
    def void(
        self, key: str, deeds: Deeds, *, call: int | None, now: float, by: str
    ) -> Iterator["SqlRevisionFold"]:
        """Make what an actor did void, or the first part of it, in one transaction."""
        with self._context.folding(key) as (transaction, record):
            _refuse(transaction, record, deeds.since, now)
            most = backlog.row_limit(record)
            revision = Revision(transaction, record, deeds, at=now, by=by, call=call, most=most)
            yield from self._revise(transaction, record, revision, "void")

    @contextmanager
    def restore(self, number: int, *, now: float, by: str) -> Iterator["SqlRevisionFold"]:
        """Let what is void count again, or the first part of it, in one transaction."""
        key = self.record(number).experiment
        with self._context.folding(key) as (transaction, record):
            rows = rows_in_force(transaction, record.id)
            parts = [row for row in rows if number in {row.id, row.call_id}]
            if not parts:
                raise WrongState(key, record.state, f"void {number} was restored before")
            part = parts[0]
            deeds = deeds_of(part)
            _refuse(transaction, record, deeds.since, now)
            revision = Revision(
                transaction, record, deeds, at=now, by=by, restores=part.id, call=number
            )
            revision.following = parts[1].since if len(parts) > 1 else None
            yield from self._revise(transaction, record, revision, "restore")

    def _revise(
        self, transaction: Transaction, record: ExperimentRecord, revision: Revision, action: str
    ) -> Iterator["SqlRevisionFold"]:
        now = revision.at
        history = SqlHistoryReader(transaction, record, self._context.experiments)
        fold = SqlRevisionFold(transaction, record, history, now, revision)
        yield fold
        if fold.due is not None and not fold.saved:
            transaction.connection.rollback()
            return
        drop_statements(transaction, record, now, "void")
        after = {
            "void": revision.number,
            "actor": revision.deeds.actor,
            "since": _moment(revision.deeds.since),
            "until": _moment(revision.deeds.until),
            "decisions": revision.decisions,
        }
        subject = f"experiment:{record.key}"
        record_change(transaction, action, subject, at=now, by=revision.by, after=after)

    def records(self, key: str | None = None) -> list[VoidRecord]:
        """List every void, the newest first, of one experiment if given."""
        with self._database.reading() as transaction:
            query = _RECORDS
            if key is not None:
                record = self._context.experiments.read(transaction, key)
                query = query.where(voids.c.experiment_id == record.id)
            rows = transaction.execute(query.order_by(voids.c.id)).all()
            given_on = transaction.execute(_GIVEN_ON).all() if rows else []
        return _records(rows, given_on)[::-1]

    def record(self, number: int) -> VoidRecord:
        """Read one void."""
        with self._database.reading() as transaction:
            query = select(voids.c.experiment_id).where(
                voids.c.id == number, voids.c.call_id.is_(None), voids.c.restores.is_(None)
            )
            of = transaction.execute(query).scalar_one_or_none() if number < _TOO_LARGE else None
            if of is None:
                raise NotFound("void", str(number))
            rows = transaction.execute(
                _RECORDS.where(voids.c.experiment_id == of).order_by(voids.c.id)
            ).all()
            given_on = transaction.execute(_GIVEN_ON.where(batches.c.experiment_id == of)).all()
        (record,) = (r for r in _records(rows, given_on) if r.id == number)
        return record


class SqlRevisionFold(SqlFold):
    """Fold of what a revision changes: `bandits.store.fold.RevisionFold`."""

    def __init__(
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        history: SqlHistoryReader,
        now: float,
        revision: Revision,
    ) -> None:
        """Save the revision, and read what it changes; the experiment's lock must be held."""
        super().__init__(transaction, record, history, now, revision=revision)
        self.following = revision.following
        self.number = revision.number


def _records(rows: Sequence[NamedRow], given_on: Sequence[NamedRow]) -> list[VoidRecord]:
    """Put the rows of each void together, in the order of their first.

    Args:
        rows: of voids, and of their restorations.
        given_on: `ids` of decisions that later ones have, by experiment, actor and time.
    """
    parts: defaultdict[int, list[NamedRow]] = defaultdict(list)
    ends: dict[int, NamedRow] = {}
    for row in rows:
        if row.restores is None:
            parts[row.call].append(row)
        else:
            ends[row.restores] = row
    records = []
    for number, group in parts.items():
        last = [ends[row.id] for row in group if row.id in ends]
        restored = last[-1] if len(last) == len(group) else None
        deeds = Deeds(group[0].actor, group[0].since, group[-1].until)
        ids = sum(
            row.ids
            for row in given_on
            if (row.experiment_id, row.actor) == (group[0].experiment_id, deeds.actor)
            and deeds.since <= row.created_at < deeds.until
        )
        records.append(
            VoidRecord(
                number,
                group[0].key,
                deeds,
                sum(row.decisions for row in group),
                group[0].created_at,
                group[0].created_by,
                None if restored is None else restored.created_at,
                None if restored is None else restored.created_by,
                ids,
            )
        )
    return records


def _refuse(transaction: Transaction, record: ExperimentRecord, since: float, now: float) -> None:
    """Refuse a revision of what nothing can change any more.

    Raises:
        WrongState: the experiment's result is final, or rows from then were removed for their age.
    """
    if record.closes_at is not None and now > record.closes_at:
        reason = f"its result is final since {_moment(record.closes_at)}, and stays as it is"
        raise WrongState(record.key, record.state, reason)
    removed = removed_before(read_retained(transaction, record))
    if removed is None:
        return
    # An event that counts comes within the window of its decision, a cancellation within the time
    # to send.
    declared = record.configuration.experiment
    earliest = removed + max(declared.reward.window_seconds, declared.send_within_seconds)
    if since < earliest:
        reason = (
            "rows of emails were removed after its retention_days, and what was learned from them"
            f" stays: void or restore what was done from {_moment(earliest)} on"
        )
        raise WrongState(record.key, record.state, reason)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class _Counter:
    """Counter of what leaves with a revision that voids."""

    def __init__(
        self, transaction: Transaction, record: ExperimentRecord, deeds: Deeds, revision: Revision
    ) -> None:
        self._transaction = transaction
        self._record = record
        self._deeds = deeds
        self._groups = len(record.configuration.arms) + 1
        self._voids = read_voids(transaction, record)
        self._new = self._voids.left(revision.batches)
        self._outside = Voids((deeds,)).outside(batches)

    def counts(self) -> DeedCounts:
        """Count."""
        cancelled = exists().where(cancellations.c.decision == decisions.c.serial)
        rows = select(_GROUP).where(of_batch(batches.c.id), ~cancelled)
        of_decisions = select(_GROUP).join(events, events.c.decision == decisions.c.serial)
        chosen = of_decisions.where(of_batch(batches.c.id), ~cancelled, ~events.c.late)
        return DeedCounts(
            self._of_chosen(rows),
            self._of_chosen(chosen) + self._reported(),
            self._of_others("activate", activations),
            self._of_others("cancel", cancellations),
            self._of_others("reward", withdrawals),
            int(self._of_chosen(select(_GROUP).where(of_batch(batches.c.id), cancelled)).sum()),
            len(self._new),
            self._introduced(),
        )

    def _introduced(self) -> int:
        """Count eligible sets that the actor introduced."""
        used_at = eligible_set_uses.c.used_at.label("created_at")
        query = select(eligible_set_uses.c.actor, used_at).where(
            eligible_set_uses.c.experiment_id == self._record.id,
            eligible_set_uses.c.actor == self._deeds.actor,
        )
        rows = self._voids.left(self._transaction.execute(query).all())
        return sum(Voids((self._deeds,)).cover(row) for row in rows)

    def _of_chosen(self, rows: Select[Any]) -> IntArray:
        """Count rows of the chosen decisions by group."""
        joined = self._transaction.join_each(batches, [], rows)
        counts = np.zeros(self._groups, dtype=np.int64)
        for numbers in self._numbers("choose"):
            condition = self._transaction.is_any(batches.c.id, numbers)
            grouped = joined.where(condition).subquery()
            group_number = grouped.c.arm_or_last
            query = select(group_number, func.count()).group_by(group_number)
            for group, count in self._transaction.execute(query):
                counts[group] += count
        return counts

    def _reported(self) -> IntArray:
        """Count events that the actor reported of decisions that stay, by group."""
        counts = np.zeros(self._groups, dtype=np.int64)
        for numbers in self._numbers("reward"):
            query = (
                select(_GROUP, func.count())
                .select_from(events)
                .join(decisions, decisions.c.serial == events.c.decision)
                .join(batches, batches.c.id == batch_of)
                .where(
                    self._transaction.is_any(events.c.batch_id, numbers),
                    ~events.c.late,
                    *self._outside,
                )
                .group_by(_GROUP)
            )
            for group, count in self._transaction.execute(query):
                counts[group] += count
        return counts

    def _of_others(self, kind: str, marks: Any) -> int:
        """Count marks of decisions that the actor had not asked for."""
        count = 0
        for numbers in self._numbers(kind):
            query = (
                select(func.count())
                .select_from(marks)
                .join(decisions, decisions.c.serial == marks.c.decision)
                .join(batches, batches.c.id == batch_of)
                .where(self._transaction.is_any(marks.c.batch_id, numbers), *self._outside)
            )
            count += self._transaction.execute(query).scalar_one()
        return count

    def _numbers(self, kind: str) -> Iterator[list[int]]:
        numbers = [batch.id for batch in self._new if batch.kind == kind]
        for start in range(0, len(numbers), _BATCHES_AT_ONCE):
            yield numbers[start : start + _BATCHES_AT_ONCE]
