"""What is stored of a subject: read for them, and erased as if it had never been.

Erasing goes the way of a cancellation: the decisions are cancelled, a fold that takes nothing else
subtracts them from what is known, and then their rows go, all in one transaction under the
experiment's lock. So there is no second way to subtract, and `bandits verify` agrees afterwards.

A subject's decisions are found by going through the log beside its writers. An index would make
that quick and every decision four times as dear: docs/adr/0014-erasing.md.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, insert, select, update

from bandits.store.fold import HistoryReader
from bandits.store.values import ExperimentRecord, SubjectPage
from storage.databases import Transaction
from storage.log.batches import FOLLOWING, open_batch
from storage.log.queries import read_numbered
from storage.schema import (
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    erasures,
    events,
    experiments,
    of_batch,
    snapshots,
    subjects,
)
from storage.snapshots.data_quality import COLUMNS, keep_departed
from storage.snapshots.fold import SqlFold, started_at_version

_AT_ONCE = 10_000  # decisions in one statement


def find_decisions(transaction: Transaction, subject: bytes) -> dict[str, list[str]]:
    """Find every decision of a subject, by its hash: ids by experiment."""
    query = (
        select(experiments.c.key, decisions.c.id)
        .select_from(decisions)
        .join(batches, batches.c.id == batch_of)
        .join(experiments, experiments.c.id == batches.c.experiment_id)
        .where(decisions.c.subject == subject)
        .order_by(decisions.c.serial)
    )
    found = defaultdict(list)
    for key, decision_id in transaction.execute(query):
        found[key].append(decision_id)
    return dict(found)


def read_subject(
    transaction: Transaction, subject: bytes, *, after: int, limit: int
) -> SubjectPage:
    """Read a subject's decisions, the oldest first, at most `limit` after a place."""
    query = (
        select(decisions.c.serial)
        .where(decisions.c.subject == subject, decisions.c.serial > after)
        .order_by(decisions.c.serial)
        .limit(limit + 1)
    )
    serials = list(transaction.execute(query).scalars())
    page = serials[:limit]
    return SubjectPage(read_numbered(transaction, page), page[-1] if len(serials) > limit else None)


class SubjectErasure:
    """Some decisions of one experiment on their way out; its lock must be held."""

    def __init__(
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        past: HistoryReader,
        ids: Sequence[str],
        now: float,
    ) -> None:
        """Find the rows, and let nobody add to them any more."""
        self._transaction = transaction
        self._record = record
        self._past = past
        self._now = now
        self._subjects: dict[int, bytes] = {}
        transaction.lock(FOLLOWING)
        for start in range(0, len(ids), _AT_ONCE):
            query = (
                select(decisions.c.serial, decisions.c.subject)
                .where(transaction.among(decisions.c.id, ids[start : start + _AT_ONCE]))
                .order_by(decisions.c.serial)
                .with_for_update()
            )
            self._subjects.update((r[0], r[1]) for r in transaction.execute(query))

    def __len__(self) -> int:
        return len(self._subjects)

    def fold(self) -> SqlFold:
        """Cancel the decisions, and start a fold that takes only that."""
        cancels = [self._cancel()]
        return SqlFold(self._transaction, self._record, self._past, self._now, cancels=cancels)

    def _cancel(self) -> int:
        """Cancel them in one batch, also what was cancelled and no fold has seen yet."""
        at = self._now
        n = len(self._subjects)
        batch = open_batch(self._transaction, "cancel", self._record.id, size=n, at=at, due_at=at)
        rows = [(serial, batch) for serial in sorted(self._subjects)]
        self._transaction.insert(cancellations, ("decision", "batch_id"), rows)
        unseen = select(batches.c.id).where(
            batches.c.id == cancellations.c.batch_id, batches.c.counted_version.is_(None)
        )
        for some in self._portions():
            mine = self._transaction.among(cancellations.c.decision, some)
            moved = update(cancellations).where(mine, unseen.exists()).values(batch_id=batch)
            self._transaction.execute(moved)
        return batch

    def finish(self, *, subtracted: bool) -> None:
        """Forget what the snapshots knew of them, and remove their rows.

        Args:
            subtracted: whether this transaction made a snapshot without them. Where it had nothing
                to subtract, all were cancelled before, so the newest snapshot knows of none.
        """
        first = self._first_version()
        newest = self._record.learned_version
        last = newest if subtracted else newest - 1
        if first is not None and first <= last:
            self._forget_snapshots(first, last)
        claimed = sorted(set(self._subjects.values()))
        for start in range(0, len(claimed), _AT_ONCE):
            mine = subjects.c.subject.in_(claimed[start : start + _AT_ONCE])
            here = subjects.c.experiment_id == self._record.id
            self._transaction.execute(delete(subjects).where(here, mine))
        remove_decisions(self._transaction, sorted(self._subjects))

    def _first_version(self) -> int | None:
        """Tell the first snapshot that knew of any of them."""
        query = started_at_version(func.min).where(~decisions.c.holdout)
        found = []
        for some in self._portions():
            mine = self._transaction.among(decisions.c.serial, some)
            found.append(self._transaction.execute(query.where(mine)).scalar_one())
        return min((v for v in found if v is not None), default=None)

    def _forget_snapshots(self, first: int, last: int) -> None:
        """Take the arrays of every snapshot that knew of them, but not what charts show."""
        row = {"experiment_id": self._record.id, "first_version": first, "last_version": last}
        self._transaction.execute(insert(erasures).values(row))
        mine = update(snapshots).where(
            snapshots.c.experiment_id == self._record.id,
            snapshots.c.version.between(first, last),
            func.length(snapshots.c.statistic) > 0,
        )
        self._transaction.execute(mine.values(statistic=b""))

    def _portions(self) -> Iterator[list[int]]:
        serials = sorted(self._subjects)
        for start in range(0, len(serials), _AT_ONCE):
            yield serials[start : start + _AT_ONCE]


def remove_decisions(transaction: Transaction, serials: Sequence[int]) -> None:
    """Remove decisions with all that follows them, and batches of which nothing is left."""
    emptied: set[int] = set()
    for start in range(0, len(serials), _AT_ONCE):
        some = serials[start : start + _AT_ONCE]
        for table in (events, activations, cancellations):
            mine = transaction.among(table.c.decision, some)
            gone = delete(table).where(mine).returning(table.c.batch_id)
            emptied.update(transaction.execute(gone).scalars())
        mine = transaction.among(decisions.c.serial, some)
        gone = delete(decisions).where(mine).returning(batch_of)
        emptied.update(transaction.execute(gone).scalars())
    _remove_empty(transaction, sorted(emptied))


def _remove_empty(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Remove those of these batches that no row points to."""
    left = [select(decisions.c.serial).where(of_batch(batches.c.id)).exists()]
    left += [
        select(table.c.batch_id).where(table.c.batch_id == batches.c.id).exists()
        for table in (events, activations, cancellations)
    ]
    for start in range(0, len(numbers), _AT_ONCE):
        mine = transaction.among(batches.c.id, numbers[start : start + _AT_ONCE])
        gone = delete(batches).where(mine, *(~kept for kept in left))
        told = gone.returning(batches.c.experiment_id, batches.c.counted_version, *COLUMNS)
        keep_departed(transaction, transaction.execute(told).all())
