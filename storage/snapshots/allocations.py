"""Allocations: probabilities of every arm by snapshot and eligible set, kept for good.

The fold that first counts a decision stores what it was drawn from, where that is the same for
everybody. So it is known also where the snapshot's arrays are erased or no longer kept: to count a
correction, a cancellation or the end of a window, and for receipts. Rows are only inserted: a
second insertion of a key changes nothing.
"""

from collections.abc import Mapping

import numpy as np
from sqlalchemy import bindparam, select

from bandits.array_types import FloatArray
from bandits.store.values import AllocationKey, ExperimentRecord
from storage.databases import Transaction
from storage.schema import ALLOCATION_FORMAT, allocations
from storage.stored_format import pack_blob

_LITTLE = "<f8"  # how probabilities are stored, whatever the machine
_COLUMNS = (
    "experiment_id",
    "policy_version",
    "configuration_version",
    "eligible_set",
    "probabilities",
)
_BY_KEY = select(allocations.c.probabilities).where(
    allocations.c.experiment_id == bindparam("of_experiment"),
    allocations.c.policy_version == bindparam("of_policy"),
    allocations.c.configuration_version == bindparam("of_configuration"),
    allocations.c.eligible_set == bindparam("of_set"),
)


def insert_allocations(
    transaction: Transaction,
    record: ExperimentRecord,
    values: Mapping[AllocationKey, FloatArray],
) -> None:
    """Insert allocations (K,) by key; those that are there already stay as they are."""
    rows = []
    for (configuration, policy, restriction), probabilities in values.items():
        content = probabilities.astype(_LITTLE).tobytes()
        packed = pack_blob(content, ALLOCATION_FORMAT)
        rows.append((record.id, policy, configuration, restriction, packed))
    if rows:
        transaction.insert(allocations, _COLUMNS, sorted(rows))


def read_allocation(
    transaction: Transaction, record: ExperimentRecord, key: AllocationKey
) -> FloatArray | None:
    """Read an allocation, with 0 for arms that joined since; None where none is stored."""
    configuration, policy, restriction = key
    values = {
        "of_experiment": record.id,
        "of_policy": policy,
        "of_configuration": configuration,
        "of_set": restriction,
    }
    packed = transaction.execute(_BY_KEY, values).scalar_one_or_none()
    if packed is None:
        return None
    probabilities = np.frombuffer(packed, _LITTLE).astype(np.float64)
    missing = len(record.configuration.arms) - len(probabilities)
    return np.pad(probabilities, (0, missing)) if missing else probabilities
