"""Retention: removing old decisions, while what was learned from them stays.

Only decisions that no fold will read again are removed: learned, their reward window closed, out of
a forgetting window, and no event or cancellation of them still uncounted. So the newest snapshot
stays as it is. The sums of the removed decisions are retained, so that the log and the retained
sums together still give the snapshot. See docs/adr/0016-retention.md.
"""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from bandits.errors import NotDerivable
from bandits.store.fold import HistoryReader
from bandits.store.values import DecisionColumns, ExperimentRecord, RetainedSums, Snapshot
from storage.databases import Transaction
from storage.deletion.erase_subject import remove_decisions
from storage.log.batches import REFERENCES
from storage.schema import (
    CHOSEN,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    retained_sums,
    subjects,
    withdrawals,
)
from storage.snapshots import backlog
from storage.snapshots.data_quality import COLUMNS, retain_counts
from storage.snapshots.observations import LEARNABLE, Observations, is_cancelled
from storage.snapshots.resummations import lacks_sums, read_resummation
from storage.snapshots.rules_in_force import read_rules
from storage.snapshots.snapshots import newest_snapshot

_AT_ONCE = 10_000  # claims in one statement
_BATCHES_AT_ONCE = 2_000

Place = tuple[float, int]  # time and number of a batch

_activated = batches.alias("activated")
_following = batches.alias("following")
_JOINED = (
    decisions.join(batches, batches.c.id == batch_of)
    .outerjoin(activations, activations.c.decision == decisions.c.serial)
    .outerjoin(_activated, _activated.c.id == activations.c.batch_id)
)
_folded = case(
    (batches.c.due_at.is_(None), _activated.c.folded_version), else_=batches.c.folded_version
)


class RetentionBatch:
    """A portion of one experiment's old decisions; its lock must be held."""

    def __init__(  # noqa: PLR0913 - where, of what, and which portion
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        history: HistoryReader,
        *,
        before: float,
        most: int,
        following: Place | None,
    ) -> None:
        """Find the rows, and keep other transactions from adding to them."""
        self.record = record
        self.history = history
        self.retained = read_retained(transaction, record)
        self.following: Place | None = None
        self._transaction = transaction
        self._before = before
        self._serials: list[int] = []
        newest = newest_snapshot(transaction, record)
        if newest is None or _decides_once(record):
            return
        if lacks_sums(newest, read_resummation(transaction, record)):
            return  # until they are made anew, from these rows too
        if read_rules(transaction, record).place is not None:
            return  # until all are judged by the same rules
        self.snapshot: Snapshot = newest
        forgetting = record.configuration.experiment.forgetting
        if forgetting is not None and forgetting.window_seconds is not None:
            # A fold subtracts what leaves the window after the newest snapshot's time.
            self._before = min(before, newest.at - forgetting.window_seconds)
        numbers = self._first_batches(most, following)
        if numbers:
            transaction.lock(REFERENCES)
            self._serials = self._settled(numbers)

    def __len__(self) -> int:
        return len(self._serials)

    @property
    def learned(self) -> DecisionColumns:
        """Read the decisions that were learned from, as they were learned."""
        serials: list[int] = []
        observations = Observations(self._transaction, self.record)
        voids = observations.voids
        counted = LEARNABLE & ~is_cancelled(voids) & _folded.is_not(None)
        outside = (*voids.outside(batches), *voids.outside(_activated))
        query = select(decisions.c.serial).select_from(_JOINED).where(counted, *outside)
        for start in range(0, len(self._serials), _AT_ONCE):
            portion = self._serials[start : start + _AT_ONCE]
            condition = self._transaction.is_any(decisions.c.serial, portion)
            serials += self._transaction.execute(query.where(condition)).scalars()
        return observations.numbered(sorted(serials))

    def save(self, retained: RetainedSums) -> None:
        """Remove the rows, and retain their sums."""
        earlier = delete(retained_sums).where(retained_sums.c.experiment_id == self.record.id)
        self._transaction.execute(earlier)
        row = {
            "experiment_id": self.record.id,
            "version": retained.version,
            "at": retained.at,
            "statistic": retained.statistic,
            "arm_counts": retained.arm_counts,
            "inference_state": retained.inference_state,
            "senders": retained.senders,
            "verdicts": retained.verdicts,
            "guardrails": retained.guardrails,
            "removed_before": self._removed_before(),
        }
        self._transaction.execute(insert(retained_sums).values(row))
        self._free_subjects()
        remove_decisions(self._transaction, self._serials)

    def _removed_before(self) -> float:
        """Return a time before which all decisions started whose rows are removed."""
        earlier = removed_before(self.retained)
        return self._before if earlier is None else max(earlier, self._before)

    def _first_batches(self, most: int, following: Place | None) -> list[int]:
        """List the next batches of choices that are old, and note where to go on."""
        place = tuple_(batches.c.created_at, batches.c.id)
        query = (
            select(batches.c.id, batches.c.created_at, batches.c.size, batches.c.policy_version)
            .where(
                batches.c.experiment_id == self.record.id,
                CHOSEN,
                batches.c.created_at < self._before,
                batches.c.counted_version.is_not(None),
            )
            .order_by(batches.c.created_at, batches.c.id)
            .limit(_BATCHES_AT_ONCE)
        )
        if following is not None:
            query = query.where(place > following)
        rows = self._transaction.execute(query).all()
        numbers: list[int] = []
        policies: set[int] = set()  # their probabilities are derived again, under the lock
        size = 0
        most = min(most, backlog.row_limit(self.record))
        for row in rows:
            policies.add(row.policy_version)
            if numbers and (size + row.size > most or len(policies) > backlog.MOST_ORIGINS):
                return numbers
            numbers.append(row.id)
            size += row.size
            self.following = (row.created_at, row.id)
        if len(rows) < _BATCHES_AT_ONCE:
            self.following = None
        return numbers

    def _settled(self, numbers: Sequence[int]) -> list[int]:
        """List the decisions of these batches that no fold will read again."""
        waits = batches.c.due_at.is_(None)
        unstarted = and_(waits, or_(_activated.c.id.is_(None), _activated.c.due_at.is_(None)))
        started_at = case((waits, _activated.c.created_at), else_=batches.c.created_at)
        closed = case((waits, _activated.c.closed_version), else_=batches.c.closed_version)
        finished: ColumnElement[bool] = closed.is_not(None)
        if self.record.stopped_at is not None:  # what starts after the stop never closes
            finished = or_(finished, started_at > self.record.stopped_at)
        done = and_(_folded.is_not(None), started_at < self._before, finished)
        query = (
            select(decisions.c.serial)
            .select_from(_JOINED)
            .where(
                self._transaction.is_any(batches.c.id, numbers),
                or_(unstarted, done),
                ~_has_uncounted(events),
                ~_has_uncounted(cancellations),
                ~_has_uncounted(withdrawals),
            )
            .order_by(decisions.c.serial)
        )
        return list(self._transaction.execute(query).scalars())

    def _free_subjects(self) -> None:
        """Remove the claims of the decisions' subjects: the experiment decides no more."""
        for start in range(0, len(self._serials), _AT_ONCE):
            portion = self._serials[start : start + _AT_ONCE]
            condition = self._transaction.is_any(decisions.c.serial, portion)
            claims = delete(subjects).where(
                subjects.c.experiment_id == self.record.id,
                subjects.c.subject.in_(select(decisions.c.subject).where(condition)),
            )
            self._transaction.execute(claims)


def remove_empty(
    transaction: Transaction, record: ExperimentRecord, before: float, most: int
) -> int:
    """Remove batches of events from before a time that have no rows; return how many.

    No row points to them, so no removal of decisions ever empties them.

    Args:
        transaction: one that writes.
        record: the experiment; its lock must be held.
        before: the time.
        most: how many at most.
    """
    query = (
        select(batches.c.id)
        .where(
            batches.c.experiment_id == record.id,
            batches.c.created_at < before,
            batches.c.kind == "reward",
            batches.c.size == 0,
            batches.c.closed_version.is_not(None),
        )
        .order_by(batches.c.created_at, batches.c.id)
        .limit(most)
    )
    numbers = list(transaction.execute(query).scalars())
    if numbers:
        empty = delete(batches).where(transaction.is_any(batches.c.id, numbers))
        counts = empty.returning(batches.c.experiment_id, batches.c.counted_version, *COLUMNS)
        retain_counts(transaction, transaction.execute(counts).all())
    return len(numbers)


def read_retained(transaction: Transaction, record: ExperimentRecord) -> RetainedSums | None:
    """Read the sums of decisions that were removed from the log, None where none were."""
    query = select(
        retained_sums.c.version,
        retained_sums.c.at,
        retained_sums.c.statistic,
        retained_sums.c.arm_counts,
        retained_sums.c.inference_state,
        func.coalesce(retained_sums.c.senders, b""),
        retained_sums.c.removed_before,
        func.coalesce(retained_sums.c.verdicts, b""),
        func.coalesce(retained_sums.c.guardrails, b""),
    )
    condition = retained_sums.c.experiment_id == record.id
    row = transaction.execute(query.where(condition)).first()
    return None if row is None else RetainedSums(*row)


def removed_before(retained: RetainedSums | None) -> float | None:
    """Return a time before which all decisions started whose rows are removed, None without any."""
    if retained is None or retained.removed_before is not None:
        return None if retained is None else retained.removed_before
    return retained.at  # it was not noted yet


def refuse_removed(retained: RetainedSums | None, record: ExperimentRecord, version: int) -> None:
    """Refuse to rebuild a snapshot that was made of decisions that were removed.

    Raises:
        NotDerivable: it is older than the retained sums, so it knew some of the rows otherwise.
    """
    if retained is not None and version < retained.version:
        raise NotDerivable(
            f"what {record.key} had learned at version {version} rested on decisions that were"
            " older than its retention and have been removed"
        )


def _decides_once(record: ExperimentRecord) -> bool:
    """Return true where a subject may come again and has to get the same decision."""
    once = record.configuration.experiment.assignment == "per_subject"
    return once and record.stopped_at is None


def _has_uncounted(table: Table) -> ColumnElement[bool]:
    """Return the condition that a decision has rows in a table that a fold will yet count."""
    return exists().where(
        table.c.decision == decisions.c.serial,
        _following.c.id == table.c.batch_id,
        _following.c.counted_version.is_(None),
        _following.c.due_at.is_not(None),
    )
