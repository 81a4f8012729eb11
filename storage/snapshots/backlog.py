"""Fold backlog: number and age of due batches, and how much of it one fold takes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ScalarSelect, func, select

from bandits.store.values import ExperimentRecord, FoldBacklog
from storage.databases import Found, Transaction
from storage.schema import (
    NEW,
    PENDING,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    experiments,
)

MOST_ROWS = 200_000  # that a fold sees, that it learns, and that it closes
MOST_CELLS = 1_000_000  # rows seen, by arms, by features, where each has probabilities of its own
MOST_ORIGINS = 100  # policies to prepare again, for what was chosen long before a fold sees it
MOST_BATCHES = 20_000

_made_in = batches.alias("made_in")


def seen_at_most(record: ExperimentRecord) -> int:
    """Return how many rows a fold sees for the first time, if they are of several batches."""
    if not record.configuration.experiment.make_policy().statistic.contextual:
        return MOST_ROWS  # probabilities are the same for everybody
    problem = record.configuration.problem
    return min(MOST_ROWS, max(1, MOST_CELLS // (problem.n_arms * problem.n_features)))


def affordable(transaction: Transaction, unseen: Sequence[Found]) -> Sequence[Found]:
    """Keep the first batches, at least one, whose rows rest on few enough policies.

    What is chosen rests on the newest ones, what is activated or cancelled on any.
    """
    rested: dict[int, set[tuple[int, bytes | None]]] = {}
    for kind, marks in (("activate", activations), ("cancel", cancellations)):
        numbers = [row.id for row in unseen if row.kind == kind]
        query = (
            select(marks.c.batch_id, _made_in.c.policy_version, decisions.c.restriction)
            .join(decisions, decisions.c.serial == marks.c.decision)
            .join(_made_in, _made_in.c.id == batch_of)
            .where(transaction.among(marks.c.batch_id, numbers))
            .distinct()
        )
        for number, version, restriction in transaction.execute(query) if numbers else ():
            rested.setdefault(number, set()).add((version, restriction))
    origins: set[tuple[int, bytes | None]] = set()
    for i, row in enumerate(unseen):
        origins |= rested.get(row.id, set())
        if i and len(origins) > MOST_ORIGINS:
            return unseen[:i]
    return unseen


def read_waiting(transaction: Transaction, now: float) -> dict[int, FoldBacklog]:
    """Count the batches that folds would take at `now`, by experiment.

    Each kind is looked up in an index of its own: what it costs is what waits.
    """

    def among(told: Any, *conditions: Any, first: bool = False) -> ScalarSelect[Any]:
        mine = batches.c.experiment_id == experiments.c.id
        query = select(told).where(mine, *conditions).correlate(experiments)
        # By number, not by the least time: for that, SQLite would go through all that is folded.
        return (query.order_by(batches.c.id).limit(1) if first else query).scalar_subquery()

    due = (PENDING, batches.c.due_at <= now)
    query = select(
        experiments.c.id,
        among(func.count(), NEW),
        among(batches.c.created_at, NEW, first=True),
        among(func.count(batches.c.id), *due),
        among(func.min(batches.c.due_at), *due),
    ).where(experiments.c.state.in_(["running", "paused", "stopped"]))
    return {
        number: FoldBacklog(new + matured, min(since))
        for number, new, created, matured, due_at in transaction.execute(query)
        if (since := [s for s in (created, due_at) if s is not None])
    }
