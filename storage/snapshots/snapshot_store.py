"""Snapshot store: folds, snapshots, their history and their audit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from bandits.array_types import FloatArray
from bandits.engine.arm_counts import ArmCounts
from bandits.store.fold import LogAudit, Removal
from bandits.store.values import (
    DataQualityCounts,
    ExperimentState,
    FoldBacklog,
    KeptSnapshot,
    ReceiptAllocation,
    RemovalResult,
    Snapshot,
    SnapshotPoint,
)
from bandits.verdict import Statements
from storage.databases import Transaction
from storage.deletion.retention import RetentionBatch, read_retained, refuse_removed, remove_empty
from storage.log.batches import count_eligible_sets
from storage.snapshots import snapshots
from storage.snapshots.actor_counts import read_actors
from storage.snapshots.allocations import read_allocation
from storage.snapshots.backlog import read_backlog
from storage.snapshots.data_quality import sum_counts
from storage.snapshots.fold import SqlFold
from storage.snapshots.network_counts import remove_old_networks
from storage.snapshots.observations import Observations
from storage.snapshots.receipt_allocations import (
    insert_receipt_allocations,
    prune_receipt_allocations,
    read_receipt_allocation,
    serial_of,
)
from storage.snapshots.resummations import (
    SqlResummationPortion,
    lacks_sums,
    read_resummation,
)
from storage.snapshots.rule_change import RuleChange
from storage.snapshots.rules_in_force import counted_too_soon, read_rules
from storage.snapshots.snapshots import SqlHistoryReader
from storage.snapshots.statements import read_statements, write_statements
from storage.store_context import StoreContext


class SnapshotStore:
    """Folds of due batches into snapshots, audit and retention: `bandits.store.SnapshotPort`."""

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context
        self._database = context.database

    @contextmanager
    def fold(self, key: str, *, now: float) -> Iterator[SqlFold]:
        """Start a fold: take the experiment's lock and read what is due by `now`."""
        with self._context.folding(key) as (transaction, record):
            history = SqlHistoryReader(transaction, record, self._context.experiments)
            fold = SqlFold(transaction, record, history, now)
            yield fold
            if fold.due is not None and not fold.saved:  # else the marks stay
                transaction.connection.rollback()

    @contextmanager
    def audit(self, key: str, version: int | None = None) -> Iterator[LogAudit]:
        """Read the whole log of one experiment, consistently, also while others write."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            retained = read_retained(transaction, record)
            if version is None:
                snapshot = snapshots.newest_snapshot(transaction, record)
            else:
                snapshot = snapshots.read_snapshot(transaction, record, version)
                refuse_removed(retained, record, version)
                number = snapshot.configuration_version
                configuration = self._context.experiments.read_configuration(
                    transaction, key, number
                )
                record = replace(record, configuration=configuration, learned_version=version)
            observations = Observations(transaction, record, as_of=version)
            yield LogAudit(
                record,
                snapshot,
                observations.learned(),
                observations.pending(),
                SqlHistoryReader(transaction, record, self._context.experiments),
                snapshots.all_kept(transaction, record),
                retained,
                sum_counts(transaction, record) if version is None else DataQualityCounts(),
                read_resummation(transaction, record) if version is None else None,
            )

    def remove(
        self,
        key: str,
        *,
        before: float,
        most: int,
        following: tuple[float, int] | None,
        keep: Callable[[Removal], None],
    ) -> RemovalResult:
        """Remove decisions that nothing can change any more, in one transaction."""
        with self._context.folding(key) as (transaction, record):
            history = SqlHistoryReader(transaction, record, self._context.experiments)
            batch = RetentionBatch(
                transaction, record, history, before=before, most=most, following=following
            )
            if len(batch):
                keep(batch)
            following = batch.following
            if following is None and remove_empty(transaction, record, before, most) == most:
                following = (before, 0)  # no decisions any more, but there may be more of these
            return RemovalResult(len(batch), following)

    def resumming(self, key: str) -> bool:
        """Return true where sums of the newest snapshot are being made anew, or need to be."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            newest = snapshots.newest_snapshot(transaction, record)
            return lacks_sums(newest, read_resummation(transaction, record))

    @contextmanager
    def resum(self, key: str, *, most: int) -> Iterator[SqlResummationPortion | None]:
        """Start a portion of a resummation: take the lock and read what comes next."""
        with self._context.folding(key) as (transaction, record):
            newest = snapshots.newest_snapshot(transaction, record)
            if newest is None or not lacks_sums(newest, read_resummation(transaction, record)):
                yield None
                return
            history = SqlHistoryReader(transaction, record, self._context.experiments)
            retained = read_retained(transaction, record)
            yield SqlResummationPortion(transaction, record, history, newest, retained, most=most)

    def needs_rescoring(self, key: str, *, now: float) -> bool:
        """Return true where decisions are judged by other rules than the configuration names."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            return read_rules(transaction, record).needs_change(record, now)

    @contextmanager
    def rescore(self, key: str, *, now: float, most: int) -> Iterator[SqlFold | None]:
        """Start a fold that judges decisions by the configuration's rules, in one transaction."""
        with self._context.folding(key) as (transaction, record):
            rules = read_rules(transaction, record)
            needed = rules.needs_change(record, now)
            if not needed or (rules.place is None and counted_too_soon(transaction, record)):
                yield None
                return
            retained = read_retained(transaction, record)
            sent = 0.0 if retained is None else ArmCounts.load(retained.arm_counts).sent.sum()
            change = RuleChange(
                transaction,
                record,
                record.configuration.experiment.machine_rules,
                at=now,
                most=most,
                left=int(sent),
            )
            history = SqlHistoryReader(transaction, record, self._context.experiments)
            fold = SqlFold(transaction, record, history, now, revision=change)
            yield fold
            if fold.due is not None and not fold.saved:
                transaction.connection.rollback()

    def allocation(
        self, key: str, configuration_version: int, policy_version: int, restriction: bytes
    ) -> FloatArray | None:
        """Read what a fold stored of the probabilities that decisions were drawn from."""
        with self._database.reading() as transaction:
            record = self._context.experiments.read(transaction, key)
            stored = (configuration_version, policy_version, restriction)
            return read_allocation(transaction, record, stored)

    def kept(self, key: str, *, before: float, waiting_since: float) -> list[KeptSnapshot]:
        """List the snapshots that have their arrays, the oldest first."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            return snapshots.kept_snapshots(
                transaction, record, before=before, waiting_since=waiting_since
            )

    def prune(self, key: str, versions: Sequence[int]) -> int:
        """Empty the arrays of some snapshots, except the newest and those with uncounted rows."""

        def work(transaction: Transaction) -> int:
            record = self._context.experiments.read(transaction, key)
            return snapshots.prune_snapshots(transaction, record, versions)

        return self._context.write(work)

    def receipt_allocation(self, decision_id: str) -> ReceiptAllocation | None:
        """Read what is kept of one decision for its receipt."""
        with self._database.reading() as transaction:
            return read_receipt_allocation(transaction, decision_id)

    def keep_receipt(
        self, key: str, decision_id: str, probabilities: FloatArray, *, at: float
    ) -> None:
        """Keep the probabilities of a decision whose receipt was asked for, unless it is gone."""

        def work(transaction: Transaction) -> None:
            record = self._context.experiments.read(transaction, key)
            serial = serial_of(transaction, decision_id)
            if serial is not None:
                rows = {serial: probabilities}
                insert_receipt_allocations(transaction, record, rows, asked_at=at)

        self._context.write(work)

    def prune_receipts(self, key: str, *, share: float, most_asked: int, most: int) -> int:
        """Remove what is kept for receipts beyond its bounds."""

        def work(transaction: Transaction) -> int:
            record = self._context.experiments.read(transaction, key)
            return prune_receipt_allocations(
                transaction, record, share=share, most_asked=most_asked, most=most
            )

        return self._context.write(work)

    def prune_networks(self, *, now: float) -> int:
        """Remove counts of networks that no event in the log can be judged by any more."""
        return self._context.write(lambda transaction: remove_old_networks(transaction, now=now))

    def snapshot(self, key: str, version: int) -> Snapshot:
        """Read one snapshot."""
        with self._database.reading() as transaction:
            record = self._context.experiments.read(transaction, key)
            return snapshots.read_snapshot(transaction, record, version)

    def state(self, key: str, points: int) -> ExperimentState:
        """Read an experiment with its newest snapshot and its history, all of one moment."""
        with self._database.reading(consistent=True) as transaction:
            record = self._context.experiments.read(transaction, key)
            newest = snapshots.newest_snapshot(transaction, record)
            return ExperimentState(
                record,
                newest,
                snapshots.read_history(transaction, record, points, newest),
                read_statements(transaction, record),
                read_resummation(transaction, record),
                read_actors(transaction, record),
                count_eligible_sets(transaction, record),
                read_rules(transaction, record),
            )

    def statements(self, key: str) -> Statements:
        """Read the dated statements of an experiment."""
        with self._database.reading() as transaction:
            return read_statements(transaction, self._context.experiments.read(transaction, key))

    def keep_statements(self, key: str, statements: Statements, *, version: int) -> None:
        """Keep dated statements, unless a later snapshot than `version` is the newest by now."""
        with self._context.folding(key) as (transaction, record):
            if record.learned_version == version:
                write_statements(transaction, record, statements)

    def backlog(self, now: float) -> Mapping[int, FoldBacklog]:
        """Read the fold backlog of each experiment."""
        with self._database.reading() as transaction:
            return read_backlog(transaction, now)

    def history(self, key: str, points: int) -> list[SnapshotPoint]:
        """Read at most `points` snapshots for a chart, spread over time, the newest included."""
        with self._database.reading() as transaction:
            record = self._context.experiments.read(transaction, key)
            newest = snapshots.newest_snapshot(transaction, record)
            return snapshots.read_history(transaction, record, points, newest)
