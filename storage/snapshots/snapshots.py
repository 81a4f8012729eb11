"""Snapshots: stored versions of what is learned, and the reader of earlier ones."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    BindParameter,
    Double,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import values as value_rows

from bandits.array_types import FloatArray
from bandits.errors import NotDerivable, NotFound
from bandits.store.values import ExperimentRecord, KeptSnapshot, Snapshot, SnapshotPoint
from bandits.versions import Configuration
from storage.databases import Transaction
from storage.experiments import ExperimentStore
from storage.schema import (
    CHOSEN,
    KEPT,
    NEW,
    activations,
    batches,
    cancellations,
    decisions,
    erasures,
    experiments,
    inference_states,
    of_batch,
    snapshots,
)
from storage.snapshots.allocations import read_allocation

_AT_ONCE = 10_000  # versions in one statement
_COLUMNS = (
    snapshots.c.version,
    snapshots.c.configuration_version,
    snapshots.c.at,
    snapshots.c.seed,
    snapshots.c.upcoming,
    snapshots.c.statistic,
    snapshots.c.arm_counts,
    func.coalesce(inference_states.c.content, b""),
    snapshots.c.allocation_rule,
    func.coalesce(inference_states.c.senders, b""),
    func.coalesce(inference_states.c.verdicts, b""),
    func.coalesce(inference_states.c.guardrails, b""),
)
_OF_SNAPSHOT = and_(
    inference_states.c.experiment_id == snapshots.c.experiment_id,
    inference_states.c.version == snapshots.c.version,
)
# Every fold runs these statements, so they are made once and get their values here.
_of_experiment: BindParameter[int] = bindparam("of_experiment")
_READ = (
    select(*_COLUMNS)
    .outerjoin_from(snapshots, inference_states, _OF_SNAPSHOT)
    .where(
        snapshots.c.experiment_id == _of_experiment,
        snapshots.c.version == bindparam("of_version"),
    )
)
_INSERT = insert(snapshots)
_DELETE_STATE = delete(inference_states).where(inference_states.c.experiment_id == _of_experiment)
_INSERT_STATE = insert(inference_states)
_MAKE_NEWEST = (
    update(experiments)
    .where(experiments.c.id == _of_experiment)
    .values(learned_version=bindparam("of_version"))
)


def read_snapshot(transaction: Transaction, record: ExperimentRecord, version: int) -> Snapshot:
    """Read one snapshot.

    Raises:
        NotFound: there is none of this version.
        NotDerivable: it knew of decisions that were erased since.
    """
    values = {"of_experiment": record.id, "of_version": version}
    row = transaction.execute(_READ, values).one_or_none()
    if row is None:
        raise NotFound("snapshot", f"{record.key}/{version}")
    if not row.statistic:
        _refuse_erased(transaction, record, version)
    columns: tuple[Any, ...] = tuple(row)
    return Snapshot(*columns)


def note_gone(
    transaction: Transaction, experiment_id: int, ranges: Iterable[tuple[int, int]]
) -> None:
    """Note that rows of the log are gone which snapshots knew of: none of these is made again.

    Args:
        transaction: one that writes.
        experiment_id: the experiment's number.
        ranges: the first and the last version of snapshots that knew of each.
    """
    for first, last in sorted(set(ranges)):
        noted = select(erasures.c.id).where(
            erasures.c.experiment_id == experiment_id,
            erasures.c.first_version <= first,
            erasures.c.last_version >= last,
        )
        if transaction.execute(noted.limit(1)).first() is None:
            row = {"experiment_id": experiment_id, "first_version": first, "last_version": last}
            transaction.execute(insert(erasures).values(row))


def _refuse_erased(transaction: Transaction, record: ExperimentRecord, version: int) -> None:
    """Refuse a snapshot without arrays if it knew of rows that are gone since.

    Raises:
        NotDerivable: it did.
    """
    erased = select(erasures.c.id).where(
        erasures.c.experiment_id == record.id,
        erasures.c.first_version <= version,
        erasures.c.last_version >= version,
    )
    if transaction.execute(erased.limit(1)).first():
        raise NotDerivable(
            f"what {record.key} had learned at version {version} rested on rows that have been"
            " erased since, or were void and gave way to others"
        )


def kept_snapshots(
    transaction: Transaction, record: ExperimentRecord, *, before: float, waiting_since: float
) -> list[KeptSnapshot]:
    """List the snapshots that have their arrays, the oldest first: `bandits.store.SnapshotPort`."""
    size = func.length(snapshots.c.statistic)
    query = (
        select(snapshots.c.version, snapshots.c.at, size)
        .where(snapshots.c.experiment_id == record.id, KEPT)
        .order_by(snapshots.c.at, snapshots.c.version)
    )
    rows = transaction.execute(query).all()
    needed = {record.learned_version, *_uncounted_versions(transaction, record)}
    old = [version for version, at, _ in rows if at < before and version not in needed]
    needed |= _waiting_versions(transaction, record, old, waiting_since)
    return [KeptSnapshot(version, at, length, version in needed) for version, at, length in rows]


def _uncounted_versions(transaction: Transaction, record: ExperimentRecord) -> list[int]:
    """List the versions that decisions were drawn from which no fold has counted."""
    query = (
        select(batches.c.policy_version)
        .where(batches.c.experiment_id == record.id, NEW, CHOSEN)
        .distinct()
    )
    return [v for v in transaction.execute(query).scalars() if v is not None]


def _waiting_versions(
    transaction: Transaction, record: ExperimentRecord, versions: Sequence[int], since: float
) -> set[int]:
    """Find those of the versions that decisions with a row of their own rest on, which wait.

    They are counted when they are activated. Where all of a snapshot have the same probabilities,
    these are stored before.
    """
    if not record.configuration.policy.statistic.contextual:
        return set()
    waits = (
        select(decisions.c.serial)
        .where(
            of_batch(batches.c.id),
            ~exists().where(activations.c.decision == decisions.c.serial),
            ~exists().where(cancellations.c.decision == decisions.c.serial),
        )
        .exists()
    )
    query = (
        select(batches.c.policy_version)
        .where(
            batches.c.experiment_id == record.id,
            CHOSEN,
            batches.c.due_at.is_(None),
            batches.c.created_at >= since,
            waits,
        )
        .distinct()
    )
    waiting: set[int] = set()
    for start in range(0, len(versions), _AT_ONCE):
        portion = versions[start : start + _AT_ONCE]
        condition = transaction.is_any(batches.c.policy_version, portion)
        waiting.update(transaction.execute(query.where(condition)).scalars())
    return waiting


def prune_snapshots(
    transaction: Transaction, record: ExperimentRecord, versions: Sequence[int]
) -> int:
    """Empty the arrays of some snapshots; return of how many.

    The newest keeps them, and one whose decisions no fold has counted yet: what these were drawn
    from is still to be derived.
    """
    needed = _uncounted_versions(transaction, record)
    query = update(snapshots).where(
        snapshots.c.experiment_id == record.id,
        snapshots.c.version < record.learned_version,
        snapshots.c.version.not_in(needed),
        transaction.is_any(snapshots.c.version, sorted(versions)),
        KEPT,
    )
    emptied = query.values(statistic=b"").returning(snapshots.c.version)
    return len(transaction.execute(emptied).all())


def newest_snapshot(transaction: Transaction, record: ExperimentRecord) -> Snapshot | None:
    """Read the newest snapshot, None before the first."""
    if record.learned_version == 0:
        return None
    return read_snapshot(transaction, record, record.learned_version)


def insert_snapshot(transaction: Transaction, record: ExperimentRecord, snapshot: Snapshot) -> None:
    """Add a snapshot and make it the newest; (experiment, version) is unique."""
    row = {
        "experiment_id": record.id,
        "version": snapshot.version,
        "configuration_version": snapshot.configuration_version,
        "at": snapshot.at,
        "seed": snapshot.seed,
        "upcoming": snapshot.upcoming,
        "statistic": snapshot.statistic,
        "arm_counts": snapshot.arm_counts,
        "allocation_rule": snapshot.allocation_rule,
    }
    transaction.execute(_INSERT, row)
    transaction.execute(_DELETE_STATE, {"of_experiment": record.id})
    state = {
        "experiment_id": record.id,
        "version": snapshot.version,
        "content": snapshot.inference_state,
        "senders": snapshot.senders,
        "verdicts": snapshot.verdicts,
        "guardrails": snapshot.guardrails,
    }
    transaction.execute(_INSERT_STATE, state)
    newest = {"of_experiment": record.id, "of_version": snapshot.version}
    transaction.execute(_MAKE_NEWEST, newest)


def read_history(
    transaction: Transaction, record: ExperimentRecord, points: int, newest: Snapshot | None
) -> list[SnapshotPoint]:
    """Read at most `points` snapshots, spread over time, the `newest` included.

    For each of `points` moments it takes the snapshot that was the newest then: as many look-ups
    in an index as there are points, however many snapshots there are.
    """
    if newest is None or points < 1:
        return []
    condition = snapshots.c.experiment_id == record.id
    first = transaction.execute(
        select(snapshots.c.at).where(condition).order_by(snapshots.c.at).limit(1)
    ).scalar_one()
    moments = np.linspace(first, newest.at, points).tolist()[:-1]
    versions = {newest.version, *_versions_at(transaction, record, moments)}
    columns = (snapshots.c.version, snapshots.c.at, snapshots.c.arm_counts)
    query = select(*columns).where(condition, snapshots.c.version.in_(versions))
    return [SnapshotPoint(*row) for row in transaction.execute(query.order_by(snapshots.c.version))]


def _versions_at(
    transaction: Transaction, record: ExperimentRecord, moments: list[float]
) -> list[int]:
    if not moments:
        return []
    moment = value_rows(column("at", Double), name="moments").data([(m,) for m in moments]).cte()
    newest_then = (
        select(snapshots.c.version)
        .where(snapshots.c.experiment_id == record.id, snapshots.c.at <= moment.c.at)
        .order_by(snapshots.c.at.desc(), snapshots.c.version.desc())
        .limit(1)
        .correlate(moment)
        .scalar_subquery()
    )
    return [v for v in transaction.execute(select(newest_then).select_from(moment)).scalars() if v]


def all_kept(transaction: Transaction, record: ExperimentRecord) -> bool:
    """Return true where every snapshot has its arrays."""
    query = select(snapshots.c.version).where(
        snapshots.c.experiment_id == record.id, func.length(snapshots.c.statistic) == 0
    )
    return transaction.execute(query.limit(1)).first() is None


class SqlHistoryReader:
    """Configurations, snapshots and allocations: `bandits.store.fold.HistoryReader`."""

    def __init__(
        self, transaction: Transaction, record: ExperimentRecord, experiments: ExperimentStore
    ) -> None:
        """Read through `transaction`."""
        self._transaction = transaction
        self._record = record
        self._experiments = experiments
        self._last: Snapshot | None = None

    def configuration(self, version: int) -> Configuration:
        """Read one version of the configuration."""
        if version == self._record.configuration.version:
            return self._record.configuration
        return self._experiments.read_configuration(self._transaction, self._record.key, version)

    def newest(self) -> Snapshot | None:
        """Read the newest snapshot, None before the first."""
        self._last = newest_snapshot(self._transaction, self._record)
        return self._last

    def snapshot(self, version: int) -> Snapshot | None:
        """Read one snapshot; None for version 0, before anything was learned."""
        if version == 0:
            return None
        if self._last is None or self._last.version != version:
            self._last = read_snapshot(self._transaction, self._record, version)
        if not self._last.statistic:
            raise NotFound("snapshot", f"{self._record.key}/{version}")  # no longer kept
        return self._last

    def allocation(
        self, configuration_version: int, policy_version: int, restriction: bytes
    ) -> FloatArray | None:
        """Read what a fold stored of the probabilities that decisions were drawn from."""
        key = (configuration_version, policy_version, restriction)
        return read_allocation(self._transaction, self._record, key)
