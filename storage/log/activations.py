"""Activating and cancelling decisions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import Table, delete

from bandits.actors import Actor
from bandits.schemas import RefusalReason, RefusedRow
from bandits.store.values import ExperimentRecord, MarkResult
from storage.databases import NamedRow, SerializationConflict, Transaction
from storage.log.batches import REFERENCES, close_batch, open_batch
from storage.log.queries import activated, with_marks
from storage.schema import (
    activations,
    batches,
    cancellations,
    decisions,
    experiments,
    message_ids,
    subjects,
)
from storage.store_context import StoreContext

_AT_ONCE = 10_000  # ids in one statement

_TARGETS = with_marks(
    decisions.c.id,
    decisions.c.serial,
    decisions.c.subject,
    experiments.c.id.label("experiment_id"),
    batches.c.actor,
    batches.c.created_at,
    batches.c.due_at,
    activated.c.created_at.label("activated_at"),
    activations.c.batch_id.label("activation"),
    cancellations.c.batch_id.label("cancellation"),
)

_ANOTHER_KEY = (
    "was chosen by another key; only that one may do this, or a key with the scope manage"
)
_TOO_LATE = (
    "may no longer be cancelled: its clock started more than {:,.0f} seconds ago, which is the time"
    " to send that its experiment declares (send_within_seconds)"
)

_Rows = Sequence[NamedRow]
_Records = Mapping[int, ExperimentRecord]  # by the experiment's number


class MarkCall(Struct, frozen=True, eq=False):
    """A call that activates or cancels decisions.

    Attributes:
        context: database and experiments.
        mark: what is done.
        ids: of the decisions.
        actor: who does it,
        own_only: and may do it only to what they asked for themselves.
        at: when, seconds since 1970.
        messages: ids of decisions, and the mailer's id of the email of each.
    """

    context: StoreContext
    mark: Literal["activate", "cancel"]
    ids: Sequence[str]
    actor: Actor
    own_only: bool
    at: float
    messages: Sequence[tuple[str, str]] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """One actor's marks of a kind can be made together."""
        return self.mark, self.actor, self.own_only

    def run(self) -> MarkResult:
        """Mark the decisions."""
        return self.context.write(
            lambda transaction: self._mark(transaction, self.ids, self.messages, self.at)
        )

    def run_group(self, transaction: Transaction, calls: Sequence["MarkCall"]) -> list[MarkResult]:
        """Mark the decisions of several calls of one kind.

        Raises:
            SerializationConflict: some were repeated, unknown or refused; which call had them is
                not clear.
        """
        ids = [i for call in calls for i in call.ids]
        messages = [pair for call in calls for pair in call.messages]
        at = max(call.at for call in calls)
        if self._mark(transaction, ids, messages, at).accepted < len(ids):
            raise SerializationConflict
        return [MarkResult(len(call.ids), 0, ()) for call in calls]

    def _mark(
        self,
        transaction: Transaction,
        ids: Sequence[str],
        messages: Sequence[tuple[str, str]],
        at: float,
    ) -> MarkResult:
        mark = _activate if self.mark == "activate" else _cancel
        transaction.lock(REFERENCES, shared=True)
        rows: list[NamedRow] = []
        for start in range(0, len(ids), _AT_ONCE):
            condition = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
            rows += transaction.execute(_TARGETS.where(condition)).all()
        numbers = {row.experiment_id for row in rows}
        records = {n: self.context.experiments.read_by_id(transaction, n) for n in sorted(numbers)}
        reasons = {
            row.id: reason
            for row in rows
            if (reason := self._refusal(row, records[row.experiment_id], at)) is not None
        }
        allowed = [row for row in rows if row.id not in reasons] if reasons else rows
        accepted = mark(transaction, records, allowed, actor=self.actor, at=at)
        if messages:
            _insert_message_ids(transaction, allowed, messages)
        existing = {row.id for row in allowed}
        unknown = tuple(i for i in dict.fromkeys(ids) if i not in existing and i not in reasons)
        refused = tuple(
            RefusedRow(row, i, *reasons[i]) for row, i in enumerate(ids) if i in reasons
        )
        return MarkResult(accepted, sum(i in existing for i in ids) - accepted, unknown, refused)

    def _refusal(
        self, row: NamedRow, record: ExperimentRecord, at: float
    ) -> tuple[RefusalReason, str] | None:
        """Return why a decision may not be marked, by a word and a sentence, or None."""
        if self.own_only and row.actor not in (self.actor, None):
            return "another_key", _ANOTHER_KEY
        if self.mark == "activate" or row.cancellation is not None:
            return None
        started_at = row.activated_at if row.due_at is None else row.created_at
        limit = record.configuration.experiment.send_within_seconds
        if started_at is not None and at > started_at + limit:
            return "too_late", _TOO_LATE.format(limit)
        return None


def _activate(
    transaction: Transaction, records: _Records, rows: _Rows, *, actor: Actor, at: float
) -> int:
    """Start the clocks of those of these decisions that wait for it; return how many."""
    accepted = 0
    waiting = [r for r in rows if r.due_at is None and r.activation is None]
    for experiment_id, group in _by_experiment(waiting).items():
        record = records[experiment_id]
        due_at = _due_at(record, at + record.configuration.experiment.reward.maturity)
        size = len(group)
        batch = open_batch(
            transaction, "activate", experiment_id, actor=actor, size=size, at=at, due_at=due_at
        )
        accepted += _insert(transaction, activations, batch, group)
    return accepted


def _cancel(
    transaction: Transaction, records: _Records, rows: _Rows, *, actor: Actor, at: float
) -> int:
    """Take these decisions out of learning, and free their subjects; return how many."""
    accepted = 0
    for experiment_id, group in _by_experiment(rows).items():
        due_at = _due_at(records[experiment_id], at)
        size = len(group)
        batch = open_batch(
            transaction, "cancel", experiment_id, actor=actor, size=size, at=at, due_at=due_at
        )
        accepted += _insert(transaction, cancellations, batch, group)
        _free_subjects(transaction, experiment_id, group)
    return accepted


def _due_at(record: ExperimentRecord, at: float) -> float | None:
    """Return `at`, or None, for no fold, after a stopped experiment's result is final."""
    return None if record.closes_at is not None and at > record.closes_at else at


def _by_experiment(rows: _Rows) -> dict[int, list[NamedRow]]:
    """Group decisions that are not cancelled by experiment, in the order that all callers use."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.experiment_id, r.serial)):
        if row.cancellation is None:
            groups[row.experiment_id].append(row)
    return groups


def _insert(transaction: Transaction, table: Table, batch: int, rows: _Rows) -> int:
    marks = [(row.serial, batch) for row in rows]
    size = transaction.insert(table, ("decision", "batch_id"), marks)
    if size < len(marks):
        close_batch(transaction, batch, size)
    return size


def _insert_message_ids(
    transaction: Transaction, rows: _Rows, messages: Sequence[tuple[str, str]]
) -> None:
    """Insert the mailer's ids of the emails of these decisions; the same again changes nothing."""
    serials = {row.id: row.serial for row in rows}
    pairs = {(name, serials[i]) for i, name in messages if i in serials}
    transaction.insert(message_ids, ("message_id", "decision"), sorted(pairs))


def _free_subjects(transaction: Transaction, experiment_id: int, rows: _Rows) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        portion = rows[start : start + _AT_ONCE]
        claims = delete(subjects).where(
            subjects.c.experiment_id == experiment_id,
            subjects.c.subject.in_([row.subject for row in portion]),
            transaction.is_any(subjects.c.decision_id, [row.id for row in portion]),
        )
        transaction.execute(claims)
