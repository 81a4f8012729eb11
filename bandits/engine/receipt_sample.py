"""Receipt sample: the probabilities of some decisions, derived by the fold that counts them.

Where a policy uses the context each decision has a row of its own. Most are not kept, and cannot be
derived again once their snapshot is erased. Those of a sample are kept with the decision.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from bandits.array_types import FloatArray
from bandits.engine.allocation_reader import AllocationReader
from bandits.store.fold import Fold
from bandits.store.values import StoredDecision

_MOST = 10_000  # decisions of an experiment in the sample, about, and as many asked for
_MOST_BYTES = 32_000_000  # of either
_SAME = 1e-9  # a propensity derived again may differ by rounding between machines


def most_receipts(n_arms: int) -> int:
    """Return how many rows of n arms are kept of an experiment's sample, and of what was asked."""
    return min(_MOST, max(1, _MOST_BYTES // (8 * n_arms)))


def sampled_share(n_arms: int, sent: float) -> float:
    """Return the share of the decisions `sent` so far that the sample has."""
    return min(1.0, most_receipts(n_arms) / max(sent, 1.0))


def keep_sample(folding: Fold, allocations: AllocationReader, sent: float) -> None:
    """Keep the rows of a sample of what a fold counts first, and of what an erasure would lose.

    Args:
        folding: a fold in progress.
        allocations: of its experiment.
        sent: decisions that are counted so far.
    """
    configuration = folding.record.configuration
    if not configuration.policy.statistic.contextual:
        return
    sample = folding.sample(sampled_share(len(configuration.arms), sent))
    rows = derive_rows(sample, allocations)
    if rows:
        folding.save_receipt_allocations(rows)


def derive_rows(
    sample: Mapping[int, StoredDecision], allocations: AllocationReader
) -> dict[int, FloatArray]:
    """Derive the probabilities of all arms, (K,), of each decision that was drawn by its context.

    Left out are those whose snapshot is gone, or does not give the probability that was logged.
    """
    groups: defaultdict[tuple[int, int, bytes], list[int]] = defaultdict(list)
    for serial, stored in sample.items():
        drawn = not (stored.holdout or stored.fallback or stored.shipped)
        learned = stored.policy_version > 0  # without a snapshot it can always be derived
        if drawn and learned and allocations.contextual(stored.configuration_version):
            origin = (stored.configuration_version, stored.policy_version, stored.eligible_set)
            groups[origin].append(serial)
    rows: dict[int, FloatArray] = {}
    for (configuration, version, restriction), serials in groups.items():
        active = allocations.policy(configuration, version)
        if active is None:
            continue
        arms = active.eligible(restriction)
        contexts = np.stack([sample[serial].context for serial in serials])
        derived = active.probabilities_or_none(arms, contexts)
        if derived is None:
            continue
        of_each = np.zeros((len(serials), active.problem.n_arms))
        of_each[:, arms] = derived
        rows |= {
            serial: row
            for serial, row in zip(serials, of_each, strict=True)
            if abs(row[sample[serial].arm] - sample[serial].propensity) <= _SAME
        }
    return rows
