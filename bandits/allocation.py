"""Allocation: the newcomer cap (1,000 matured decisions) and the floor, on a policy's shares."""

import numpy as np

from bandits.array_types import BoolArray, FloatArray

NEWCOMER_MATURED = 1000  # decisions that end an arm's time as a newcomer


def default_floor(n_arms: int) -> float:
    """Return the minimum share of an arm where none is given."""
    return min(0.01, 0.05 / n_arms)


def cap_newcomers(probabilities: FloatArray, newcomers: BoolArray) -> FloatArray:
    """Hold each arm that joined a running experiment to a share of 1/K; others take the rest.

    The rest is shared in proportion to the other arms' probabilities, equally where those are all
    0. Where every arm is new, nothing changes.

    Args:
        probabilities: (..., K).
        newcomers: (K,), true for arms without enough matured decisions.
    """
    if not newcomers.any() or newcomers.all():
        return probabilities
    cap = 1.0 / probabilities.shape[-1]
    capped = np.where(newcomers, np.minimum(probabilities, cap), 0.0)
    others = np.where(newcomers, 0.0, probabilities)
    weight = others.sum(axis=-1, keepdims=True)
    equal = (~newcomers) / np.count_nonzero(~newcomers)
    shares = np.where(weight > 0, others / np.where(weight > 0, weight, 1.0), equal)
    return capped + shares * (1.0 - capped.sum(axis=-1, keepdims=True))


def apply_floor(probabilities: FloatArray, floor: float) -> FloatArray:
    """Give every arm at least `floor`: π' = ε + (1 − Kε) π, for probabilities (..., K)."""
    n_arms = probabilities.shape[-1]
    return floor + (1.0 - n_arms * floor) * probabilities
