"""Data-quality counts: input that did not fit, counted by batch and summed by experiment.

A batch gets its counts when it is written; the fold that counts it adds them to the experiment's
own row, since faults of a log are no reason for a new snapshot. Once a stopped experiment's result
is final its counts stay as they are: those of later batches are set to 0. The counts of batches
that were erased or removed from the log are retained, so that all of it can be verified.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from sqlalchemy import func, insert, select, update

from bandits.actors import Actor
from bandits.store.values import DataQualityCounts, ExperimentRecord
from storage.databases import NamedRow, Transaction
from storage.log.batches import open_batch
from storage.schema import (
    QUALITY_COUNTS,
    batches,
    cancellations,
    events,
    experiments,
    retained_counts,
)

_cancelled_in = batches.alias("cancelled_in")
_AFTER_CANCELLATION = (
    select(events.c.batch_id, func.count())
    .join(batches, batches.c.id == events.c.batch_id)
    .join(cancellations, cancellations.c.decision == events.c.decision)
    .join(_cancelled_in, _cancelled_in.c.id == cancellations.c.batch_id)
    .where(_cancelled_in.c.created_at <= batches.c.created_at)
    .group_by(events.c.batch_id)
)
COLUMNS = tuple(batches.c[name] for name in QUALITY_COUNTS)
_COUNTS = itemgetter(slice(-len(QUALITY_COUNTS), None))  # of a row that ends with `COLUMNS`


def note_unkept(
    transaction: Transaction,
    early: Mapping[int, int],
    cancelled: Mapping[int, int],
    *,
    actor: Actor,
    at: float,
) -> None:
    """Count events that are not kept, by experiment's number, in batches without rows.

    Args:
        transaction: one that writes.
        early: numbers of events that came before their decision's clock ran,
        cancelled: and of those whose decision was cancelled before it did.
        actor: who reported them.
        at: when, seconds since 1970.
    """
    for number in sorted({*early, *cancelled}):
        unkept = {"early": early.get(number, 0), "cancelled": cancelled.get(number, 0)}
        counts = {"size": 0, **unkept}
        open_batch(transaction, "reward", number, actor=actor, at=at, due_at=at, **counts)


def count_cancelled(transaction: Transaction, rewards: Sequence[int]) -> dict[int, int]:
    """Note with batches of events how many of these came once their decision was cancelled.

    Returns:
        The numbers, by batch; others are left out.
    """
    if not rewards:
        return {}
    rows = transaction.execute_any(_AFTER_CANCELLATION, events.c.batch_id, rewards).all()
    counts: dict[int, int] = {row[0]: row[1] for row in rows}
    for number, count in counts.items():
        values = {"cancelled": batches.c.cancelled + count}
        transaction.execute(update(batches).where(batches.c.id == number).values(values))
    return counts


def add_counts(
    transaction: Transaction, record: ExperimentRecord, counted: Sequence[NamedRow]
) -> None:
    """Add the counts of batches that a fold counts to the experiment's.

    With them, events of cancelled decisions: these are counted here, so that appending need not.

    Args:
        transaction: one that writes.
        record: the experiment; its lock must be held.
        counted: `id`, `kind`, `created_at` and, in the end, `COLUMNS` of each batch.
    """
    in_time = counted
    cancelled = count_cancelled(transaction, [b.id for b in counted if b.kind == "reward"])
    if record.stopped_at is not None and counted:
        in_time = [batch for batch in counted if _is_in_time(record, batch)]
        counts = [b for b in counted if any(_COUNTS(b)) or b.id in cancelled]
        late = [b.id for b in counts if not _is_in_time(record, b)]
        if late:
            condition = transaction.is_any(batches.c.id, late)
            transaction.execute(
                update(batches).where(condition).values(dict.fromkeys(QUALITY_COUNTS, 0))
            )
    sums = Counter(cancelled=sum(cancelled.get(batch.id, 0) for batch in in_time))
    for batch in in_time:
        sums.update(dict(zip(QUALITY_COUNTS, _COUNTS(batch), strict=True)))
    if any(sums.values()):
        values = {name: experiments.c[name] + n for name, n in sums.items() if n}
        query = update(experiments).where(experiments.c.id == record.id)
        transaction.execute(query.values(values))


def _is_in_time(record: ExperimentRecord, batch: NamedRow) -> bool:
    latest = record.stopped_at if batch.kind == "choose" else record.closes_at
    return latest is None or bool(batch.created_at <= latest)


def sum_counts(transaction: Transaction, record: ExperimentRecord) -> DataQualityCounts:
    """Sum the counts of all counted batches, those included that are no longer in the log."""
    sums = [func.coalesce(func.sum(column), 0) for column in COLUMNS]
    counted = (batches.c.experiment_id == record.id, batches.c.counted_version.is_not(None))
    logged = transaction.execute(select(*sums).where(*counted)).one()
    query = select(*(retained_counts.c[name] for name in QUALITY_COUNTS))
    row = transaction.execute(query.where(retained_counts.c.experiment_id == record.id)).first()
    retained = row or (0,) * len(QUALITY_COUNTS)
    return DataQualityCounts(*(int(a) + b for a, b in zip(logged, retained, strict=True)))


def retain_counts(transaction: Transaction, removed: Iterable[NamedRow]) -> None:
    """Retain the counts of batches that are removed now; the experiments' locks must be held.

    Args:
        transaction: one that writes.
        removed: `experiment_id`, `counted_version` and, in the end, `COLUMNS` of each batch.
    """
    sums: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for batch in removed:
        if batch.counted_version is not None and any(_COUNTS(batch)):
            sums[batch.experiment_id].update(dict(zip(QUALITY_COUNTS, _COUNTS(batch), strict=True)))
    for number, counts in sums.items():
        condition = retained_counts.c.experiment_id == number
        values = {name: retained_counts.c[name] + counts[name] for name in QUALITY_COUNTS}
        query = update(retained_counts).where(condition).values(values)
        row = transaction.execute(query.returning(retained_counts.c.experiment_id)).first()
        if row is None:
            first = {name: counts[name] for name in QUALITY_COUNTS}
            transaction.execute(insert(retained_counts).values(experiment_id=number, **first))
