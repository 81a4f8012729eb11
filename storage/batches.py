"""Batches: what one transaction wrote to the log of one experiment."""

from typing import Any, Literal

from sqlalchemy import delete, insert, update

from storage.databases import Transaction
from storage.tables import batches

Kind = Literal["choose", "activate", "reward", "cancel"]


def open_batch(
    transaction: Transaction,
    kind: Kind,
    experiment_id: int,
    *,
    at: float,
    due_at: float | None,
    **columns: int,
) -> int:
    """Insert a batch of no rows yet; return its number.

    Args:
        transaction: one that writes.
        kind: what its rows are.
        experiment_id: whose they are.
        at: when, seconds since 1970.
        due_at: when a fold may take it in; None for decisions that wait to be activated.
        columns: what else is the same for all its rows.
    """
    row: dict[str, Any] = {
        "kind": kind,
        "experiment_id": experiment_id,
        "size": 0,
        "created_at": at,
        "due_at": due_at,
        **columns,
    }
    number: int = transaction.execute(
        insert(batches).values(row).returning(batches.c.id)
    ).scalar_one()
    return number


def close_batch(transaction: Transaction, batch_id: int, size: int) -> None:
    """Note how many rows a batch got; one of none is taken away."""
    mine = batches.c.id == batch_id
    if size:
        transaction.execute(update(batches).where(mine).values(size=size))
    else:
        transaction.execute(delete(batches).where(mine))
