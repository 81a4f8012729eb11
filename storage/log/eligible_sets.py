"""The different restrictions that an experiment's requests had: so many, and no more."""

from collections.abc import Sequence
from hashlib import blake2b

from sqlalchemy import func, select

from bandits.store.records import ExperimentRecord
from storage.databases import Transaction
from storage.schema import restrictions

_COLUMNS = ("experiment_id", "digest")


def admit(
    transaction: Transaction, record: ExperimentRecord, given: Sequence[bytes], *, most: int
) -> Sequence[bytes]:
    """Note which of these distinct restrictions are new; return those beyond `most`, if any.

    Where some are beyond it, none is noted.
    """
    transaction.lock(f"restrictions {record.id}")
    digests = {blake2b(r, digest_size=16).digest(): r for r in given}
    mine = restrictions.c.experiment_id == record.id
    query = select(restrictions.c.digest).where(mine, restrictions.c.digest.in_(list(digests)))
    known = set(transaction.execute(query).scalars())
    fresh = [digest for digest in digests if digest not in known]
    if not fresh:
        return []
    count = select(func.count()).select_from(restrictions).where(mine)
    room = max(most - transaction.execute(count).scalar_one(), 0)
    if len(fresh) > room:
        return [digests[digest] for digest in fresh[room:]]
    transaction.insert(restrictions, _COLUMNS, [(record.id, d) for d in sorted(fresh)])
    return []
