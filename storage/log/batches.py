"""Batches: the rows that one transaction wrote to the log, and the eligible sets they name."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import delete, func, insert, select, update

from bandits.store.values import ExperimentRecord
from storage.databases import Transaction
from storage.schema import batches, restrictions

# The lock of what refers to decisions: shared by who appends to them, alone for who deletes them.
FOLLOWING = "what follows a decision"

Kind = Literal["choose", "activate", "reward", "cancel"]

OPENED = (
    "kind",
    "experiment_id",
    "size",
    "created_at",
    "due_at",
    "configuration_version",
    "policy_version",
    "clipped",
    "unknown",
    "missing",
)  # what a batch of decisions is opened with
_OPENING = insert(batches).returning(batches.c.id)


def open_batch(
    transaction: Transaction,
    kind: Kind,
    experiment_id: int,
    *,
    at: float,
    due_at: float | None,
    **columns: int,
) -> int:
    """Insert a batch, its rows to follow; return its number.

    Args:
        transaction: one that writes.
        kind: what its rows are.
        experiment_id: whose they are.
        at: when, seconds since 1970.
        due_at: when a fold may take it in; None for decisions that wait to be activated.
        columns: its size, and what else is the same for all its rows. Where they turn out to be
            fewer, `close_batch` says so.
    """
    row: dict[str, Any] = {
        "kind": kind,
        "experiment_id": experiment_id,
        "created_at": at,
        "due_at": due_at,
        **columns,
    }
    number: int = transaction.execute(_OPENING, row).scalar_one()
    return number


def close_batch(transaction: Transaction, batch_id: int, size: int, **counts: int) -> None:
    """Note that a batch got other counts than it was opened with; one of nothing is taken away."""
    mine = batches.c.id == batch_id
    if size or any(counts.values()):
        transaction.execute(update(batches).where(mine).values(size=size, **counts))
    else:
        transaction.execute(delete(batches).where(mine))


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
