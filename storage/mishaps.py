"""What did not fit: counted by batch when it is written, kept by experiment when a fold sees it.

Folds keep the sums in the experiment's own row, since what is wrong with a log is no reason for a
new snapshot. Once a stopped experiment's result is final they stay as they are.
"""

from collections.abc import Sequence

from sqlalchemy import update

from bandits.store import Mishaps, Record
from storage.databases import Found, Transaction
from storage.tables import batches, experiments

NAMES = Mishaps.__struct_fields__
COLUMNS = tuple(batches.c[name] for name in NAMES)


def keep_mishaps(transaction: Transaction, record: Record, counted: Sequence[Found]) -> None:
    """Add those of the batches that a fold counts to the experiment's."""
    count = [b for b in counted if _in_time(record, b)]
    more = {name: sum(getattr(b, name) for b in count) for name in NAMES}
    if any(more.values()):
        values = {name: experiments.c[name] + n for name, n in more.items()}
        mine = update(experiments).where(experiments.c.id == record.id)
        transaction.execute(mine.values(values))


def _in_time(record: Record, batch: Found) -> bool:
    if record.stopped_at is None or record.closes_at is None:
        return True
    latest = record.stopped_at if batch.kind == "choose" else record.closes_at
    return bool(batch.created_at <= latest)
