"""Resummation in the store: the sums so far, and the batches that come next.

See `bandits.engine.sum_anew`. While it is under way nothing is removed for its age, so that no
row is both in these sums and in the retained ones.
"""

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, insert, select

from bandits.array_types import FloatArray
from bandits.inference.state import InferenceState
from bandits.store.fold import HistoryReader
from bandits.store.values import (
    AllocationKey,
    ExperimentRecord,
    Resummation,
    RetainedSums,
    Snapshot,
)
from storage.databases import Transaction
from storage.schema import resummations
from storage.snapshots import backlog
from storage.snapshots.allocations import insert_allocations
from storage.snapshots.observations import Observations
from storage.snapshots.snapshots import insert_snapshot

_COLUMNS = (
    resummations.c.from_format,
    resummations.c.batch_created_at,
    resummations.c.batch_id,
    resummations.c.content,
)
_READ = select(*_COLUMNS).where(resummations.c.experiment_id == bindparam("of_experiment"))


def read_resummation(transaction: Transaction, record: ExperimentRecord) -> Resummation | None:
    """Read the sums so far, None where none are being made."""
    row = transaction.execute(_READ, {"of_experiment": record.id}).one_or_none()
    if row is None:
        return None
    place = None if row.batch_id is None else (row.batch_created_at, row.batch_id)
    return Resummation(row.from_format, place, row.content)


def save_resummation(
    transaction: Transaction, record: ExperimentRecord, resummation: Resummation
) -> None:
    """Keep the sums so far in place of earlier ones; the experiment's lock must be held."""
    end_resummation(transaction, record)
    created_at, batch_id = resummation.place or (None, None)
    row = {
        "experiment_id": record.id,
        "from_format": resummation.from_format,
        "batch_created_at": created_at,
        "batch_id": batch_id,
        "content": resummation.inference_state,
    }
    transaction.execute(insert(resummations).values(row))


def end_resummation(transaction: Transaction, record: ExperimentRecord) -> None:
    """Forget the sums so far."""
    transaction.execute(delete(resummations).where(resummations.c.experiment_id == record.id))


def lacks_sums(snapshot: Snapshot | None, resummation: Resummation | None) -> bool:
    """Return true where sums of a snapshot are being made anew, or need to be."""
    if snapshot is None:
        return False
    return resummation is not None or InferenceState.is_older(snapshot.inference_state)


class SqlResummationPortion:
    """Portion of the log to be summed anew: `bandits.store.fold.ResummationPortion`."""

    def __init__(  # noqa: PLR0913 - where, of what, and which portion
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        history: HistoryReader,
        snapshot: Snapshot,
        retained: RetainedSums | None,
        *,
        most: int,
    ) -> None:
        """Read the next portion; the experiment's lock must be held."""
        self.record = record
        self.history = history
        self.snapshot = snapshot
        self.retained = retained
        self.resummation = _still_valid(read_resummation(transaction, record))
        self._transaction = transaction
        place = None if self.resummation is None else self.resummation.place
        observations = Observations(transaction, record)
        starts = observations.starts_after(place, min(most, backlog.row_limit(record)))
        starts = backlog.limit_past_origins(transaction, starts) if starts else starts
        self.decisions = observations.started_by(starts)
        self.place = (starts[-1].created_at, starts[-1].id) if starts else None

    def save_allocations(self, allocations: Mapping[AllocationKey, FloatArray]) -> None:
        """Insert allocations that are not there yet."""
        insert_allocations(self._transaction, self.record, allocations)

    def save(self, resummation: Resummation) -> None:
        """Keep the sums so far."""
        save_resummation(self._transaction, self.record, resummation)

    def finish(self, snapshot: Snapshot) -> None:
        """Insert the snapshot that has the new sums."""
        insert_snapshot(self._transaction, self.record, snapshot)
        end_resummation(self._transaction, self.record)


def _still_valid(resummation: Resummation | None) -> Resummation | None:
    """Return sums of today's format; earlier ones, of an interrupted upgrade, are begun anew."""
    if resummation is None or InferenceState.is_older(resummation.inference_state):
        return None
    return resummation
