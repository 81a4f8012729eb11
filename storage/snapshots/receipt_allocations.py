"""Receipt allocations: the probabilities of every arm that one decision was drawn from.

Where a policy uses the context they are another row for each decision, too many to keep them all.
They are kept of a sample of the decisions, and of those whose receipt was asked for: these receipts
need no snapshot. The sample is a set of serials by their hash, so a smaller share of the decisions
is part of a larger one.
"""

from collections.abc import Mapping

import numpy as np
from sqlalchemy import delete, func, select, update

from bandits.array_types import AnyArray, BoolArray, FloatArray
from bandits.store.values import ExperimentRecord, ReceiptAllocation
from storage.databases import Transaction
from storage.schema import ALLOCATION_FORMAT, decisions, receipt_allocations
from storage.stored_format import pack_blob

_LITTLE = "<f8"  # how probabilities are stored, whatever the machine
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads what is in a row
_COLUMNS = ("decision", "experiment_id", "asked_at", "probabilities")


def are_sampled(serials: AnyArray, share: float) -> BoolArray:
    """Mark the decisions, (n,), that belong to a sample of this share of all."""
    hashes = serials.astype(np.uint64) * _MULTIPLIER
    return np.asarray(hashes.astype(np.float64) < share * 2.0**64, dtype=np.bool_)


def insert_receipt_allocations(
    transaction: Transaction,
    record: ExperimentRecord,
    rows: Mapping[int, FloatArray],
    *,
    asked_at: float | None = None,
) -> None:
    """Insert probabilities (K,) by serial, of a sample or asked for; note that they were asked."""
    values = []
    for serial, probabilities in sorted(rows.items()):
        packed = pack_blob(probabilities.astype(_LITTLE).tobytes(), ALLOCATION_FORMAT)
        values.append((serial, record.id, asked_at, packed))
    if values:
        transaction.insert(receipt_allocations, _COLUMNS, values)
    if asked_at is not None:
        condition = transaction.is_any(receipt_allocations.c.decision, sorted(rows))
        query = update(receipt_allocations).where(condition)
        query = query.where(receipt_allocations.c.asked_at.is_(None))
        transaction.execute(query.values(asked_at=asked_at))


def serial_of(transaction: Transaction, decision_id: str) -> int | None:
    """Find the serial of a decision, and lock its row; None where it is gone."""
    query = select(decisions.c.serial).where(decisions.c.id == decision_id).with_for_update()
    return transaction.execute(query).scalar_one_or_none()


def read_receipt_allocation(transaction: Transaction, decision_id: str) -> ReceiptAllocation | None:
    """Read what is kept of a decision; None where nothing is."""
    query = (
        select(receipt_allocations.c.probabilities, receipt_allocations.c.asked_at)
        .join(decisions, decisions.c.serial == receipt_allocations.c.decision)
        .where(decisions.c.id == decision_id)
    )
    row = transaction.execute(query).one_or_none()
    if row is None:
        return None
    probabilities = np.frombuffer(row.probabilities, _LITTLE).astype(np.float64)
    return ReceiptAllocation(probabilities, row.asked_at is not None)


def prune_receipt_allocations(
    transaction: Transaction, record: ExperimentRecord, *, share: float, most_asked: int, most: int
) -> int:
    """Remove what is not of the sample of a share, and what was asked for first; return how many.

    Args:
        transaction: one that writes.
        record: the experiment.
        share: of all decisions, which the sample may have.
        most_asked: that were asked for and stay.
        most: of either that are removed at most.
    """
    of_experiment = receipt_allocations.c.experiment_id == record.id
    noted = receipt_allocations.c.asked_at.is_not(None)
    sampled = select(receipt_allocations.c.decision).where(of_experiment, ~noted)
    serials = np.fromiter(transaction.execute(sampled).scalars(), np.int64)
    removed = serials[~are_sampled(serials, share)][:most].tolist()
    count = select(func.count()).select_from(receipt_allocations).where(of_experiment, noted)
    excess = transaction.execute(count).scalar_one() - most_asked
    if excess > 0:
        first = (
            select(receipt_allocations.c.decision)
            .where(of_experiment, noted)
            .order_by(receipt_allocations.c.asked_at, receipt_allocations.c.decision)
            .limit(min(excess, most))
        )
        removed += transaction.execute(first).scalars()
    if removed:
        condition = transaction.is_any(receipt_allocations.c.decision, sorted(removed))
        transaction.execute(delete(receipt_allocations).where(condition))
    return len(removed)
