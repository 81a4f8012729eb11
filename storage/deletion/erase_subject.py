"""Subject data: reading what is stored of a subject, and erasing it without trace.

Erasing is a cancellation first: the decisions are cancelled, a fold that takes nothing else
subtracts them from the snapshot, and then their rows are deleted, all in one transaction under the
experiment's lock. So there is no second way to subtract, and `bandits verify` agrees afterwards.

A subject's decisions are found by scanning the log beside its writers. An index would make that
quick and every decision four times as dear: docs/adr/0014-erasing.md.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec
from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update

from bandits.errors import Unavailable
from bandits.store.values import ExperimentRecord, StoredSignal, SubjectPage
from storage.accounts.idempotency_keys import drop_answers
from storage.audit_log import record_change
from storage.connections import ConnectionStore
from storage.databases import Transaction
from storage.log import waiting_events
from storage.log.batches import REFERENCES, open_batch
from storage.log.candidates import match_keys
from storage.log.queries import read_numbered
from storage.log.subject_index import MATCH_KEY, find_subjects, forget_decisions
from storage.opt_outs import OptOutStore
from storage.schema import (
    activations,
    attributions,
    batch_of,
    batches,
    cancellations,
    decisions,
    erasures,
    events,
    experiments,
    former_ids,
    message_ids,
    of_batch,
    receipt_allocations,
    repeats,
    snapshots,
    subjects,
    withdrawals,
)
from storage.snapshots.data_quality import COLUMNS, retain_counts
from storage.snapshots.fold import SqlFold, started_at_version
from storage.snapshots.snapshots import SqlHistoryReader
from storage.snapshots.statements import drop_statements
from storage.snapshots.voids import read_voids
from storage.spool import Spool
from storage.store_context import StoreContext
from storage.tracked_links import TrackedLinkStore

_AT_ONCE = 10_000  # decisions in one statement
_log = logging.getLogger(__name__)


class SubjectStore:
    """Data of single subjects, read and erased: `bandits.store.SubjectPort`."""

    def __init__(
        self,
        context: StoreContext,
        connections: ConnectionStore,
        tracked_links: TrackedLinkStore,
        spool: Spool,
    ) -> None:
        """Work in the database of `context`, and in what is kept beside the log."""
        self._context = context
        self._database = context.database
        self._connections = connections
        self._tracked_links = tracked_links
        self._spool = spool
        self._opt_outs = OptOutStore(context.database)

    def subject(
        self, subject_id: str, *, after: int = 0, limit: int, any_spelling: bool = False
    ) -> SubjectPage:
        """Read a subject's decisions in every experiment; this scans the log."""
        with self._database.reading(consistent=True) as transaction:
            query = (
                select(decisions.c.serial)
                .where(
                    self._is_of(transaction, subject_id, any_spelling=any_spelling),
                    decisions.c.serial > after,
                )
                .order_by(decisions.c.serial)
                .limit(limit + 1)
            )
            serials = list(transaction.execute(query).scalars())
            page = serials[:limit]
            following = page[-1] if len(serials) > limit else None
            return SubjectPage(read_numbered(transaction, page), following)

    def other_spellings(self, subject_id: str) -> int:
        """Count the decisions of subjects that attribution takes for this one."""
        with self._database.reading(consistent=True) as transaction:
            return len(self._spelled_otherwise(transaction, subject_id))

    def subject_decisions(
        self, subject_id: str, *, any_spelling: bool = False
    ) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this scans the log."""
        ids = defaultdict(list)
        with self._database.reading(consistent=True) as transaction:
            query = (
                select(experiments.c.key, decisions.c.id)
                .select_from(decisions)
                .join(batches, batches.c.id == batch_of)
                .join(experiments, experiments.c.id == batches.c.experiment_id)
                .where(self._is_of(transaction, subject_id, any_spelling=any_spelling))
                .order_by(decisions.c.serial)
            )
            for key, decision_id in transaction.execute(query):
                ids[key].append(decision_id)
        return dict(ids)

    def signals(self, subject_id: str, ids: Sequence[str]) -> list[StoredSignal]:
        """Read the events of a subject that were received and that are not in the log."""
        waiting = [
            StoredSignal(r.topic, r.received_at, "", r.text.decode(errors="replace"))
            for r in self._spool.find([subject_id, *ids])
        ]
        for portion in _portions_of(ids):
            with self._database.reading() as transaction:
                kept = waiting_events.read_of_decisions(transaction, portion)
            waiting += [
                StoredSignal(k.actor, k.received_at, "", msgspec.json.encode(k.event).decode())
                for k in kept
            ]
        return [*self._connections.of_subject(subject_id, ids), *waiting]

    def erase_signals(self, subject_id: str, ids: Sequence[str]) -> int:
        """Erase what `signals` reads, and that the subject has unsubscribed."""
        waiting = self._spool.erase([subject_id, *ids])  # first: it may be on its way to the others
        self._tracked_links.erase_of_decisions(ids)
        for portion in _portions_of(ids):
            waiting += self._context.write(partial(waiting_events.erase_of_decisions, ids=portion))
        return waiting + self._connections.erase_of_subject(subject_id, ids)

    def opted_out(self, record: ExperimentRecord, subjects: Sequence[str]) -> list[bool]:
        """Return True for each of n subjects who opted out, as the record has it."""
        hashes = self._context.hash_subjects(subjects)
        return [digest in record.opt_outs for digest in hashes]

    def opted_out_at(self, subject_id: str) -> float | None:
        """Return when a subject opted out, None where it did not."""
        return self._opt_outs.opted_out_at(self._hash(subject_id))

    def has_opted_out(self, decision_id: str) -> bool:
        """Return True where the subject of a decision opted out."""
        return self._opt_outs.has(decision_id)

    def set_opt_out(self, decision_id: str, *, opted_out: bool, at: float) -> None:
        """Let the subject of a decision opt out, or take that back."""
        self._opt_outs.set(decision_id, opted_out=opted_out, at=at)
        self._context.experiments.forget_all()

    def erase_opt_out(self, subject_id: str, *, at: float) -> None:
        """Forget that a subject opted out."""
        self._opt_outs.erase([self._hash(subject_id)], at=at)
        self._context.experiments.forget_all()

    def purge(self) -> None:
        """Remove what was erased from the database's files as well."""
        try:
            done = self._database.purge()
        except Unavailable:  # it is erased all the same
            done = False
        if not done:
            _log.warning("what was erased is overwritten in the database's files a little later")

    def _hash(self, subject_id: str) -> bytes:
        return self._context.hash_subjects([subject_id])[0]

    def _is_of(
        self, transaction: Transaction, subject_id: str, *, any_spelling: bool
    ) -> ColumnElement[bool]:
        """Return the condition that a decision is of a subject, if asked in any spelling."""
        own = decisions.c.subject == self._hash(subject_id)
        if not any_spelling:
            return own
        others = self._spelled_otherwise(transaction, subject_id)
        return or_(own, transaction.is_any(decisions.c.serial, others))

    def _spelled_otherwise(self, transaction: Transaction, subject_id: str) -> list[int]:
        """Find the decisions of subjects that are matched as this one, but spelled in another way.

        They are in the index of subjects, and where there is none are found in the form by which
        they are matched.
        """
        own = self._hash(subject_id)
        (key,) = match_keys(self._context.hash_subjects, [subject_id])
        numbers = list(transaction.execute(select(experiments.c.id)).scalars())
        serials = set(find_subjects(transaction, numbers, [key]))
        if key != own:
            query = select(decisions.c.serial).where(decisions.c.subject == key)
            serials.update(transaction.execute(query).scalars())
        ordered = sorted(serials)
        others: list[int] = []
        for start in range(0, len(ordered), _AT_ONCE):
            portion = transaction.is_any(decisions.c.serial, ordered[start : start + _AT_ONCE])
            query = select(decisions.c.serial).where(portion, MATCH_KEY.in_([key]))
            query = query.where(decisions.c.subject != own)
            others += transaction.execute(query).scalars()
        return others

    @contextmanager
    def erase(self, key: str, ids: Sequence[str], *, now: float, by: str) -> Iterator[SqlFold]:
        """Erase decisions with their events, activations and cancellations, in one transaction."""
        marks = self._tracked_links.marks(ids)
        with self._context.folding(key) as (transaction, record):
            self._tracked_links.note_erased(transaction, marks)
            history = SqlHistoryReader(transaction, record, self._context.experiments)
            erasure = SubjectErasure(transaction, record, history, ids, now)
            fold = erasure.fold()
            yield fold
            if fold.due is not None and not fold.saved:
                transaction.connection.rollback()
                return
            erasure.finish(subtracted=fold.saved)
            after = {"decisions": len(erasure)}  # the subject is not named anywhere
            record_change(transaction, "erase", f"experiment:{key}", at=now, by=by, after=after)


def _portions_of(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


class SubjectErasure:
    """Erasure of decisions of one experiment; its lock must be held."""

    def __init__(
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        history: SqlHistoryReader,
        ids: Sequence[str],
        now: float,
    ) -> None:
        """Find the rows, and keep other transactions from adding to them."""
        self._transaction = transaction
        self._record = record
        self._history = history
        self._now = now
        self._subjects: dict[int, bytes] = {}
        transaction.lock(REFERENCES)
        for start in range(0, len(ids), _AT_ONCE):
            query = (
                select(decisions.c.serial, decisions.c.subject)
                .where(transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE]))
                .order_by(decisions.c.serial)
                .with_for_update()
            )
            self._subjects.update((r[0], r[1]) for r in transaction.execute(query))

    def __len__(self) -> int:
        return len(self._subjects)

    def fold(self) -> SqlFold:
        """Cancel the decisions, and start a fold that takes nothing else."""
        cancels = [self._cancel()]
        return SqlFold(self._transaction, self._record, self._history, self._now, cancels=cancels)

    def _cancel(self) -> int:
        """Cancel them in one batch, those whose cancellation is uncounted or void included."""
        at = self._now
        n = len(self._subjects)
        number = self._record.id
        batch = open_batch(
            self._transaction, "cancel", number, actor=None, size=n, at=at, due_at=at
        )
        rows = [(serial, batch) for serial in sorted(self._subjects)]
        self._transaction.insert(cancellations, ("decision", "batch_id"), rows)
        voids = read_voids(self._transaction, self._record)
        in_force = select(batches.c.id).where(
            batches.c.id == cancellations.c.batch_id,
            batches.c.counted_version.is_not(None),
            *voids.outside(batches),
        )
        for portion in self._portions():
            condition = self._transaction.is_any(cancellations.c.decision, portion)
            query = update(cancellations).where(condition, ~in_force.exists())
            self._transaction.execute(query.values(batch_id=batch))
        return batch

    def finish(self, *, subtracted: bool) -> None:
        """Empty the snapshots that knew of the decisions, and delete their rows.

        Args:
            subtracted: this transaction made a snapshot without them. Where it had nothing to
                subtract, all were cancelled before, so the newest snapshot knows of none.
        """
        first = self._first_version()
        newest = self._record.learned_version
        last = newest if subtracted else newest - 1
        if first is not None and first <= last:
            self._empty_snapshots(first, last)
        if first is not None:
            drop_statements(self._transaction, self._record, self._now, "erasure")
        drop_answers(self._transaction)
        hashes = sorted(set(self._subjects.values()))
        for start in range(0, len(hashes), _AT_ONCE):
            claims = delete(subjects).where(
                subjects.c.experiment_id == self._record.id,
                subjects.c.subject.in_(hashes[start : start + _AT_ONCE]),
            )
            self._transaction.execute(claims)
        remove_decisions(self._transaction, sorted(self._subjects))

    def _first_version(self) -> int | None:
        """Find the first snapshot that knew of any of the decisions."""
        query = started_at_version(func.min).where(~decisions.c.holdout)
        versions = []
        for portion in self._portions():
            condition = self._transaction.is_any(decisions.c.serial, portion)
            versions.append(self._transaction.execute(query.where(condition)).scalar_one())
        return min((v for v in versions if v is not None), default=None)

    def _empty_snapshots(self, first: int, last: int) -> None:
        """Empty the arrays of every snapshot that knew of the decisions; charts keep theirs."""
        row = {"experiment_id": self._record.id, "first_version": first, "last_version": last}
        self._transaction.execute(insert(erasures).values(row))
        query = update(snapshots).where(
            snapshots.c.experiment_id == self._record.id,
            snapshots.c.version.between(first, last),
            func.length(snapshots.c.statistic) > 0,
        )
        self._transaction.execute(query.values(statistic=b""))

    def _portions(self) -> Iterator[list[int]]:
        serials = sorted(self._subjects)
        for start in range(0, len(serials), _AT_ONCE):
            yield serials[start : start + _AT_ONCE]


def remove_decisions(transaction: Transaction, serials: Sequence[int]) -> None:
    """Delete decisions with all rows that refer to them, and batches that are empty then."""
    batch_ids: set[int] = set()
    for start in range(0, len(serials), _AT_ONCE):
        portion = serials[start : start + _AT_ONCE]
        forget_decisions(transaction, portion)
        for table in (attributions, message_ids):
            condition = transaction.is_any(table.c.decision, portion)
            transaction.execute(delete(table).where(condition))
        for table in (events, activations, cancellations, withdrawals):
            condition = transaction.is_any(table.c.decision, portion)
            query = delete(table).where(condition).returning(table.c.batch_id)
            batch_ids.update(transaction.execute(query).scalars())
        for table in (repeats, former_ids, receipt_allocations):
            transaction.execute(delete(table).where(transaction.is_any(table.c.decision, portion)))
        condition = transaction.is_any(decisions.c.serial, portion)
        query = delete(decisions).where(condition).returning(batch_of)
        batch_ids.update(transaction.execute(query).scalars())
    _remove_empty_batches(transaction, sorted(batch_ids))


def _remove_empty_batches(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete those of these batches that no row points to."""
    rows = [select(decisions.c.serial).where(of_batch(batches.c.id)).exists()]
    rows += [
        select(table.c.batch_id).where(table.c.batch_id == batches.c.id).exists()
        for table in (events, activations, cancellations, withdrawals)
    ]
    for start in range(0, len(numbers), _AT_ONCE):
        condition = transaction.is_any(batches.c.id, numbers[start : start + _AT_ONCE])
        query = delete(batches).where(condition, *(~exists for exists in rows))
        counts = query.returning(batches.c.experiment_id, batches.c.counted_version, *COLUMNS)
        retain_counts(transaction, transaction.execute(counts).all())
