"""Batches: what one transaction wrote to the log of one experiment."""

from typing import Any, Literal

from sqlalchemy import delete, insert, update

from storage.databases import Transaction
from storage.schema import batches

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
