"""Dated statements of an experiment: claims that held when they were made, kept for pages.

They are no sums, so no audit compares them: what rested on decisions that were erased, are void or
were judged by other rules is dropped.
"""

from datetime import UTC, datetime
from typing import Literal

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from bandits.store.values import ExperimentRecord
from bandits.verdict import Statements, StatementsReset
from storage.databases import Transaction
from storage.schema import statements as table

_of_experiment = table.c.experiment_id == bindparam("of_experiment")
_READ = select(table.c.content).where(_of_experiment)
_DELETE = delete(table).where(_of_experiment)
_INSERT = insert(table)


def read_statements(transaction: Transaction, record: ExperimentRecord) -> Statements:
    """Read what is kept; nothing before anything was claimed."""
    content = transaction.execute(_READ, {"of_experiment": record.id}).scalar_one_or_none()
    return Statements() if content is None else msgspec.msgpack.decode(content, type=Statements)


def write_statements(
    transaction: Transaction, record: ExperimentRecord, statements: Statements
) -> None:
    """Keep statements instead of those before."""
    transaction.execute(_DELETE, {"of_experiment": record.id})
    row = {"experiment_id": record.id, "content": msgspec.msgpack.encode(statements)}
    transaction.execute(_INSERT, row)


def drop_statements(
    transaction: Transaction,
    record: ExperimentRecord,
    at: float,
    reason: Literal["erasure", "void", "machine_rules"],
) -> None:
    """Drop statements since decisions that they rested on are gone, and note when and why."""
    if read_statements(transaction, record).statements:
        reset = StatementsReset(datetime.fromtimestamp(at, UTC), reason)
        write_statements(transaction, record, Statements(at, (), reset))
