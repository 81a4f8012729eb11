"""What no fold has taken in yet, though it is time: how far learning is behind."""

from typing import Any

from sqlalchemy import ScalarSelect, func, select

from bandits.store.records import FoldBacklog
from storage.databases import Transaction
from storage.schema import NEW, PENDING, batches, experiments


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
