"""Fold backlog: number and age of due batches, and how much of it one fold takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ScalarSelect, func, or_, select

from bandits.store.values import ExperimentRecord, FoldBacklog
from storage.databases import NamedRow, Transaction
from storage.schema import (
    NEW,
    PENDING,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    experiments,
    of_batch,
)

MOST_ROWS = 200_000  # that a fold counts, that it learns, and that it closes
MOST_CELLS = 1_000_000  # rows counted, by arms, by features, where each has its own probabilities
MOST_ORIGINS = 100  # policies to prepare again, for decisions made long before a fold counts them
MOST_BATCHES = 20_000

_Origin = tuple[int, bytes | None]  # policy version and eligible set of decisions

_made_in = batches.alias("made_in")
_MARKS = {"activate": activations, "cancel": cancellations}
_MARKED = {
    kind: select(marks.c.batch_id, _made_in.c.policy_version, decisions.c.eligible_set)
    .join(decisions, decisions.c.serial == marks.c.decision)
    .join(_made_in, _made_in.c.id == batch_of)
    .distinct()
    for kind, marks in _MARKS.items()
}
_CHOSEN = (
    select(batches.c.id, batches.c.policy_version, decisions.c.eligible_set)
    .join_from(batches, decisions, of_batch(batches.c.id))
    .distinct()
)


def row_limit(record: ExperimentRecord) -> int:
    """Return how many rows a fold counts at most, if they are of several batches."""
    if not record.configuration.policy.statistic.contextual:
        return MOST_ROWS  # probabilities are the same for all
    problem = record.configuration.problem
    return min(MOST_ROWS, max(1, MOST_CELLS // (problem.n_arms * problem.n_features)))


def limit_origins(transaction: Transaction, uncounted: Sequence[NamedRow]) -> Sequence[NamedRow]:
    """Keep the first batches, at least one, whose rows were decided by few enough policies.

    Chosen decisions were decided by the newest policies, activated or cancelled ones by any.
    """
    return _limit(uncounted, _origins_marked(transaction, uncounted))


def limit_past_origins(transaction: Transaction, starts: Sequence[NamedRow]) -> Sequence[NamedRow]:
    """Keep the first of start batches of any time, at least one, as `limit_origins` does."""
    origins_of = _origins_marked(transaction, starts)
    chosen = [b.id for b in starts if b.kind == "choose"]
    for number, version, eligible in transaction.execute_any(_CHOSEN, batches.c.id, chosen):
        origins_of.setdefault(number, set()).add((version, eligible))
    return _limit(starts, origins_of)


def _origins_marked(
    transaction: Transaction, uncounted: Sequence[NamedRow]
) -> dict[int, set[_Origin]]:
    """Find the origins of decisions that are activated or cancelled, by batch."""
    origins_of: dict[int, set[_Origin]] = {}
    for kind, marks in _MARKS.items():
        numbers = [row.id for row in uncounted if row.kind == kind]
        if not numbers:
            continue
        origins = transaction.execute_any(_MARKED[kind], marks.c.batch_id, numbers)
        for number, version, eligible in origins:
            origins_of.setdefault(number, set()).add((version, eligible))
    return origins_of


def _limit(
    uncounted: Sequence[NamedRow], origins_of: Mapping[int, set[_Origin]]
) -> Sequence[NamedRow]:
    origins: set[_Origin] = set()
    for i, row in enumerate(uncounted):
        origins |= origins_of.get(row.id, set())
        if i and len(origins) > MOST_ORIGINS:
            return uncounted[:i]
    return uncounted


def read_backlog(transaction: Transaction, now: float) -> dict[int, FoldBacklog]:
    """Count the batches that folds would take at `now`, by experiment.

    Each kind is looked up in an index of its own: the cost is that of the backlog.
    """

    def of_batches(value: Any, *conditions: Any, first: bool = False) -> ScalarSelect[Any]:
        of_experiment = batches.c.experiment_id == experiments.c.id
        query = select(value).where(of_experiment, *conditions).correlate(experiments)
        # By number, not by the least time: for that, SQLite would read all that is folded.
        return (query.order_by(batches.c.id).limit(1) if first else query).scalar_subquery()

    # Opens and clicks wait where machines are left out: see `storage.snapshots.network_counts`.
    frozen = or_(batches.c.freezes_at.is_(None), batches.c.freezes_at <= now)
    new = (NEW, or_(experiments.c.machine_rules.is_(None), frozen))
    due = (PENDING, batches.c.due_at <= now)
    query = select(
        experiments.c.id,
        of_batches(func.count(), *new),
        of_batches(batches.c.created_at, *new, first=True),
        of_batches(func.count(batches.c.id), *due),
        of_batches(func.min(batches.c.due_at), *due),
    ).where(experiments.c.state.in_(["running", "paused", "stopped"]))
    return {
        number: FoldBacklog(counted + matured, min(since))
        for number, counted, created, matured, due_at in transaction.execute(query)
        if (since := [s for s in (created, due_at) if s is not None])
    }
