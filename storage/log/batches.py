"""Batches: the rows that one transaction wrote to the log, and the eligible sets they name."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

from sqlalchemy import delete, func, insert, select, update

from bandits.actors import Actor
from bandits.store.values import ExperimentRecord
from storage.databases import Transaction
from storage.schema import batches, eligible_sets

# The lock of rows that refer to decisions: shared by calls that insert such rows, alone for those
# that delete decisions. Every process on a database has to use the same name.
REFERENCES = "references to decisions"

Kind = Literal["choose", "activate", "reward", "cancel"]

_INSERT = insert(batches).returning(batches.c.id)


def open_batch(  # noqa: PLR0913 - a row's columns, by keyword
    transaction: Transaction,
    kind: Kind,
    experiment_id: int,
    *,
    actor: Actor | None,
    at: float,
    due_at: float | None,
    **columns: float,
) -> int:
    """Insert a batch, its rows to follow; return its number.

    Args:
        transaction: one that writes.
        kind: of its rows.
        experiment_id: the experiment of all of them.
        actor: who writes them; None for rows that are gone when the transaction ends.
        at: when, seconds since 1970.
        due_at: when a fold may take it in; None for decisions that wait to be activated.
        columns: its size, and other columns. Where its rows turn out to be fewer, `close_batch`
            corrects them.
    """
    row: dict[str, Any] = {
        "kind": kind,
        "experiment_id": experiment_id,
        "actor": actor,
        "created_at": at,
        "due_at": due_at,
        **columns,
    }
    number: int = transaction.execute(_INSERT, row).scalar_one()
    return number


def close_batch(transaction: Transaction, batch_id: int, size: int, **counts: int) -> None:
    """Correct the counts of a batch; delete it where it has neither rows nor counts."""
    condition = batches.c.id == batch_id
    if size or any(counts.values()):
        transaction.execute(update(batches).where(condition).values(size=size, **counts))
    else:
        transaction.execute(delete(batches).where(condition))


_COLUMNS = ("experiment_id", "digest", "actor")


def admit(
    transaction: Transaction,
    record: ExperimentRecord,
    eligible: Sequence[bytes],
    *,
    actor: Actor,
    most: int,
) -> Sequence[bytes]:
    """Insert eligible sets, all distinct, that are new; return those that are too many, if any.

    As `bandits.store.LogPort.admit` declares: where there are such, none is inserted.
    """
    transaction.lock(f"eligible sets {record.id}")
    digests = {blake2b(r, digest_size=16).digest(): r for r in eligible}
    condition = eligible_sets.c.experiment_id == record.id
    query = select(eligible_sets.c.digest).where(
        condition, eligible_sets.c.digest.in_(list(digests))
    )
    stored = set(transaction.execute(query).scalars())
    new = [digest for digest in digests if digest not in stored]
    if not new:
        return []
    used = count_eligible_sets(transaction, record)
    own = used.pop(actor, 0)
    room = max((most - sum(used.values())) * 3 // 4 - own, 0)
    if len(new) > room:
        return [digests[digest] for digest in new[room:]]
    transaction.insert(eligible_sets, _COLUMNS, [(record.id, d, actor) for d in sorted(new)])
    return []


def count_eligible_sets(
    transaction: Transaction, record: ExperimentRecord
) -> dict[Actor | None, int]:
    """Count an experiment's eligible sets by who asked for them first, None where unknown."""
    query = (
        select(eligible_sets.c.actor, func.count())
        .where(eligible_sets.c.experiment_id == record.id)
        .group_by(eligible_sets.c.actor)
        .order_by(eligible_sets.c.actor)
    )
    return {row[0]: row[1] for row in transaction.execute(query)}
