"""Activating and cancelling decisions."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, delete

from bandits.store import Marked
from storage.batches import close_batch, open_batch
from storage.databases import Database
from storage.log import with_marks
from storage.tables import (
    activations,
    batches,
    cancellations,
    decisions,
    experiments,
    subjects,
)

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

_Rows = Sequence[Row[Any]]


def activate(
    connection: Connection,
    database: Database,
    ids: Sequence[str],
    *,
    at: float,
    maturity: Callable[[int], float],
) -> Marked:
    """Start the clocks of decisions that wait for it.

    Args:
        connection: in a transaction that writes.
        database: what it is connected to.
        ids: the decisions.
        at: when, seconds since 1970.
        maturity: tells how many seconds an experiment's decisions take to mature.
    """
    found = _find(connection, database, ids)
    accepted = 0
    waiting = [r for r in found if r.due_at is None and r.activation is None]
    for experiment_id, rows in _by_experiment(waiting).items():
        batch = open_batch(
            connection, "activate", experiment_id, at=at, due_at=at + maturity(experiment_id)
        )
        accepted += _mark(connection, database, activations, batch, rows)
    return _marked(ids, found, accepted)


def cancel(connection: Connection, database: Database, ids: Sequence[str], *, at: float) -> Marked:
    """Take decisions out of learning, and free their subjects."""
    found = _find(connection, database, ids)
    accepted = 0
    for experiment_id, rows in _by_experiment(found).items():
        batch = open_batch(connection, "cancel", experiment_id, at=at, due_at=at)
        accepted += _mark(connection, database, cancellations, batch, rows)
        _free(connection, database, experiment_id, rows)
    return _marked(ids, found, accepted)


def _find(connection: Connection, database: Database, ids: Sequence[str]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = database.among(decisions.c.id, ids[start : start + _AT_ONCE])
        found += connection.execute(_TARGETS.where(some)).all()
    return found


def _by_experiment(rows: _Rows) -> dict[int, list[Row[Any]]]:
    """Group what is not cancelled by experiment, both in an order that everybody keeps to."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.experiment_id, r.serial)):
        if row.cancellation is None:
            groups[row.experiment_id].append(row)
    return groups


def _mark(connection: Connection, database: Database, table: Table, batch: int, rows: _Rows) -> int:
    marks = [(row.serial, batch) for row in rows]
    size = database.insert(connection, table, ("decision", "batch_id"), marks)
    close_batch(connection, batch, size)
    return size


def _free(connection: Connection, database: Database, experiment_id: int, rows: _Rows) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        claims = delete(subjects).where(
            subjects.c.experiment_id == experiment_id,
            subjects.c.subject.in_([row.subject for row in some]),
            database.among(subjects.c.decision_id, [row.id for row in some]),
        )
        connection.execute(claims)


def _marked(ids: Sequence[str], found: _Rows, accepted: int) -> Marked:
    known = {row.id for row in found}
    unknown = tuple(i for i in dict.fromkeys(ids) if i not in known)
    return Marked(accepted, len(ids) - len(unknown) - accepted, unknown)
