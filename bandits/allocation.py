"""Allocation: the newcomer cap (1,000 matured decisions) and the floor, on a policy's shares."""

from enum import IntEnum

import numpy as np

from bandits.array_types import BoolArray, FloatArray

NEWCOMER_MATURED = 1000  # decisions that end an arm's time as a newcomer


class AllocationRule(IntEnum):
    """How the sends that capped newcomers leave are shared; every snapshot is stored with its own.

    A decision is derived again by the rule that it was made under.
    """

    RENORMALIZED = 1  # by the policy's shares among all arms: equally where newcomers had all
    OTHERS_ALONE = 2  # by the policy's shares among the other arms, as if no newcomer were there


NEWEST_RULE = AllocationRule.OTHERS_ALONE


def default_floor(n_arms: int) -> float:
    """Return the minimum share of an arm where none is given."""
    return min(0.01, 0.05 / n_arms)


def cap_newcomers(
    probabilities: FloatArray, newcomers: BoolArray, among_others: FloatArray
) -> FloatArray:
    """Hold each arm that joined a running experiment to a share of 1/K; others take the rest.

    Args:
        probabilities: (..., K).
        newcomers: (K,), true for arms without enough matured decisions; at least one is false.
        among_others: how the rest is shared, (..., number of other arms), rows summing to 1.
    """
    capped = np.zeros_like(probabilities)
    shares = np.minimum(probabilities[..., newcomers], 1.0 / probabilities.shape[-1])
    capped[..., newcomers] = shares
    capped[..., ~newcomers] = among_others * (1.0 - shares.sum(axis=-1, keepdims=True))
    return capped


def renormalize_others(probabilities: FloatArray, newcomers: BoolArray) -> FloatArray:
    """Divide the other arms' probabilities by their sum, as `AllocationRule.RENORMALIZED` does.

    A policy that gives newcomers everything leaves the others nothing to divide; then they are
    equal.

    Args:
        probabilities: (..., K).
        newcomers: (K,), at least one is false.
    """
    others = probabilities[..., ~newcomers]
    weight = others.sum(axis=-1, keepdims=True)
    equal = 1.0 / others.shape[-1]
    return np.where(weight > 0, others / np.where(weight > 0, weight, 1.0), equal)


def apply_floor(probabilities: FloatArray, floor: float) -> FloatArray:
    """Give every arm at least `floor`: π' = ε + (1 − Kε) π, for probabilities (..., K)."""
    n_arms = probabilities.shape[-1]
    return floor + (1.0 - n_arms * floor) * probabilities
