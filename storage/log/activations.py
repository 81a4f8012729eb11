"""Activating and cancelling decisions."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy import Table, delete

from bandits.store.values import ExperimentRecord, MarkResult
from storage.databases import Found, Transaction
from storage.log.batches import FOLLOWING, close_batch, open_batch
from storage.log.queries import with_marks
from storage.schema import activations, batches, cancellations, decisions, experiments, subjects

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

_Rows = Sequence[Found]


def activate(
    transaction: Transaction,
    ids: Sequence[str],
    *,
    at: float,
    record: Callable[[Transaction, int], ExperimentRecord],
) -> MarkResult:
    """Start the clocks of decisions that wait for it.

    Args:
        transaction: one that writes.
        ids: the decisions.
        at: when, seconds since 1970.
        record: reads the experiment of a number.
    """
    transaction.lock(FOLLOWING, shared=True)
    found = _find(transaction, ids)
    accepted = 0
    waiting = [r for r in found if r.due_at is None and r.activation is None]
    for experiment_id, rows in _by_experiment(waiting).items():
        experiment = record(transaction, experiment_id)
        due_at = _due(experiment, at + experiment.configuration.experiment.reward.maturity)
        batch = open_batch(
            transaction, "activate", experiment_id, size=len(rows), at=at, due_at=due_at
        )
        accepted += _mark(transaction, activations, batch, rows)
    return _marked(ids, found, accepted)


def cancel(
    transaction: Transaction,
    ids: Sequence[str],
    *,
    at: float,
    record: Callable[[Transaction, int], ExperimentRecord],
) -> MarkResult:
    """Take decisions out of learning, and free their subjects; takes what `activate` does."""
    transaction.lock(FOLLOWING, shared=True)
    found = _find(transaction, ids)
    accepted = 0
    for experiment_id, rows in _by_experiment(found).items():
        due_at = _due(record(transaction, experiment_id), at)
        batch = open_batch(
            transaction, "cancel", experiment_id, size=len(rows), at=at, due_at=due_at
        )
        accepted += _mark(transaction, cancellations, batch, rows)
        _free(transaction, experiment_id, rows)
    return _marked(ids, found, accepted)


def _due(record: ExperimentRecord, at: float) -> float | None:
    """Keep what would come after a stopped experiment's result is final out of every fold."""
    return None if record.closes_at is not None and at > record.closes_at else at


def _find(transaction: Transaction, ids: Sequence[str]) -> list[Found]:
    found: list[Found] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = transaction.among(decisions.c.id, ids[start : start + _AT_ONCE])
        found += transaction.execute(_TARGETS.where(some)).all()
    return found


def _by_experiment(rows: _Rows) -> dict[int, list[Found]]:
    """Group what is not cancelled by experiment, both in an order that everybody keeps to."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.experiment_id, r.serial)):
        if row.cancellation is None:
            groups[row.experiment_id].append(row)
    return groups


def _mark(transaction: Transaction, table: Table, batch: int, rows: _Rows) -> int:
    marks = [(row.serial, batch) for row in rows]
    size = transaction.insert(table, ("decision", "batch_id"), marks)
    if size < len(marks):
        close_batch(transaction, batch, size)
    return size


def _free(transaction: Transaction, experiment_id: int, rows: _Rows) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        claims = delete(subjects).where(
            subjects.c.experiment_id == experiment_id,
            subjects.c.subject.in_([row.subject for row in some]),
            transaction.among(subjects.c.decision_id, [row.id for row in some]),
        )
        transaction.execute(claims)


def _marked(ids: Sequence[str], found: _Rows, accepted: int) -> MarkResult:
    known = {row.id for row in found}
    unknown = tuple(i for i in dict.fromkeys(ids) if i not in known)
    return MarkResult(accepted, sum(i in known for i in ids) - accepted, unknown)
