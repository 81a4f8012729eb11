"""Activating and cancelling decisions."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import Table, delete

from bandits.actors import Actor
from bandits.store.values import ExperimentRecord, MarkResult
from storage.databases import NamedRow, SerializationConflict, Transaction
from storage.log.batches import REFERENCES, close_batch, open_batch
from storage.log.queries import with_marks
from storage.schema import activations, batches, cancellations, decisions, experiments, subjects
from storage.store_context import StoreContext

_AT_ONCE = 10_000  # ids in one statement

_TARGETS = with_marks(
    decisions.c.id,
    decisions.c.serial,
    decisions.c.subject,
    experiments.c.id.label("experiment_id"),
    batches.c.due_at,
    activations.c.batch_id.label("activation"),
    cancellations.c.batch_id.label("cancellation"),
)

_Rows = Sequence[NamedRow]


class MarkCall(Struct, frozen=True, eq=False):
    """A call that activates or cancels decisions.

    Attributes:
        context: database and experiments.
        mark: what is done.
        ids: of the decisions.
        actor: who does it.
        at: when, seconds since 1970.
    """

    context: StoreContext
    mark: Literal["activate", "cancel"]
    ids: Sequence[str]
    actor: Actor
    at: float

    @property
    def kind(self) -> tuple[str, Actor]:
        """One actor's marks of a kind can be made together."""
        return self.mark, self.actor

    def run(self) -> MarkResult:
        """Mark the decisions."""
        return self.context.write(lambda transaction: self._mark(transaction, self.ids, self.at))

    def run_group(self, transaction: Transaction, calls: Sequence["MarkCall"]) -> list[MarkResult]:
        """Mark the decisions of several calls of one kind.

        Raises:
            SerializationConflict: some were repeated or unknown; which call had them is not clear.
        """
        ids = [i for call in calls for i in call.ids]
        if self._mark(transaction, ids, max(call.at for call in calls)).accepted < len(ids):
            raise SerializationConflict
        return [MarkResult(len(call.ids), 0, ()) for call in calls]

    def _mark(self, transaction: Transaction, ids: Sequence[str], at: float) -> MarkResult:
        mark = _activate if self.mark == "activate" else _cancel
        transaction.lock(REFERENCES, shared=True)
        rows: list[NamedRow] = []
        for start in range(0, len(ids), _AT_ONCE):
            condition = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
            rows += transaction.execute(_TARGETS.where(condition)).all()
        accepted = mark(transaction, self.context, rows, actor=self.actor, at=at)
        existing = {row.id for row in rows}
        unknown = tuple(i for i in dict.fromkeys(ids) if i not in existing)
        return MarkResult(accepted, sum(i in existing for i in ids) - accepted, unknown)


def _activate(
    transaction: Transaction, context: StoreContext, rows: _Rows, *, actor: Actor, at: float
) -> int:
    """Start the clocks of those of these decisions that wait for it; return how many."""
    accepted = 0
    waiting = [r for r in rows if r.due_at is None and r.activation is None]
    for experiment_id, group in _by_experiment(waiting).items():
        record = context.experiments.read_by_id(transaction, experiment_id)
        due_at = _due_at(record, at + record.configuration.experiment.reward.maturity)
        size = len(group)
        batch = open_batch(
            transaction, "activate", experiment_id, actor=actor, size=size, at=at, due_at=due_at
        )
        accepted += _insert(transaction, activations, batch, group)
    return accepted


def _cancel(
    transaction: Transaction, context: StoreContext, rows: _Rows, *, actor: Actor, at: float
) -> int:
    """Take these decisions out of learning, and free their subjects; return how many."""
    accepted = 0
    for experiment_id, group in _by_experiment(rows).items():
        due_at = _due_at(context.experiments.read_by_id(transaction, experiment_id), at)
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


def _free_subjects(transaction: Transaction, experiment_id: int, rows: _Rows) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        portion = rows[start : start + _AT_ONCE]
        claims = delete(subjects).where(
            subjects.c.experiment_id == experiment_id,
            subjects.c.subject.in_([row.subject for row in portion]),
            transaction.is_any(subjects.c.decision_id, [row.id for row in portion]),
        )
        transaction.execute(claims)
