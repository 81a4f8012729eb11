"""What did not fit: counted by batch when it is written, kept by experiment when a fold sees it.

Folds keep the sums in the experiment's own row, since what is wrong with a log is no reason for a
new snapshot. Once a stopped experiment's result is final they stay as they are: later batches are
taken to have nothing that did not fit. What batches counted that are no longer in the log, since
their rows were erased or removed, is kept as departed, so that all of it can be verified.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import func, insert, select, update

from bandits.store.values import DataQualityCounts, ExperimentRecord
from storage.databases import Found, Transaction
from storage.log.batches import open_batch
from storage.schema import batches, departed, experiments

NAMES = DataQualityCounts.__struct_fields__
COLUMNS = tuple(batches.c[name] for name in NAMES)


def note_early(transaction: Transaction, early: Mapping[int, int], *, at: float) -> None:
    """Count events of experiments, by number, that are not kept, each in a batch without rows."""
    for number in sorted(early):
        count = early[number]
        open_batch(transaction, "reward", number, size=0, at=at, due_at=at, early=count)


def keep_mishaps(
    transaction: Transaction, record: ExperimentRecord, counted: Sequence[Found]
) -> None:
    """Add those of the batches that a fold counts to the experiment's."""
    count = [b for b in counted if _in_time(record, b)]
    more = {name: sum(getattr(b, name) for b in count) for name in NAMES}
    if any(more.values()):
        values = {name: experiments.c[name] + n for name, n in more.items()}
        mine = update(experiments).where(experiments.c.id == record.id)
        transaction.execute(mine.values(values))
    too_late = [b.id for b in counted if not _in_time(record, b) and _any(b)]
    if too_late:
        those = update(batches).where(transaction.among(batches.c.id, too_late))
        transaction.execute(those.values(dict.fromkeys(NAMES, 0)))


def _any(batch: Found) -> bool:
    return any(getattr(batch, name) for name in NAMES)


def _in_time(record: ExperimentRecord, batch: Found) -> bool:
    if record.stopped_at is None or record.closes_at is None:
        return True
    latest = record.stopped_at if batch.kind == "choose" else record.closes_at
    return bool(batch.created_at <= latest)


def logged_mishaps(transaction: Transaction, record: ExperimentRecord) -> DataQualityCounts:
    """Sum what every counted batch told, those included that are no longer in the log."""
    sums = [func.coalesce(func.sum(column), 0) for column in COLUMNS]
    here = (batches.c.experiment_id == record.id, batches.c.counted_version.is_not(None))
    logged = transaction.execute(select(*sums).where(*here)).one()
    query = select(*(departed.c[name] for name in NAMES))
    gone = transaction.execute(query.where(departed.c.experiment_id == record.id)).first()
    return DataQualityCounts(
        *(int(a) + b for a, b in zip(logged, gone or (0,) * len(NAMES), strict=True))
    )


def keep_departed(transaction: Transaction, removed: Iterable[Found]) -> None:
    """Keep what batches told that are removed now; the experiments' locks must be held.

    Args:
        transaction: one that writes.
        removed: of each batch its `experiment_id`, its `counted_version` and `COLUMNS`.
    """
    more: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for batch in removed:
        if batch.counted_version is not None and _any(batch):
            more[batch.experiment_id].update({name: getattr(batch, name) for name in NAMES})
    for number, counts in more.items():
        here = departed.c.experiment_id == number
        values = {name: departed.c[name] + counts[name] for name in NAMES}
        more_of_it = update(departed).where(here).values(values)
        known = transaction.execute(more_of_it.returning(departed.c.experiment_id)).first()
        if known is None:
            new = {name: counts[name] for name in NAMES}
            transaction.execute(insert(departed).values(experiment_id=number, **new))
