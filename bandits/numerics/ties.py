"""The largest of some scores, where ties are split equally, always."""

import numpy as np
from numpy.random import Generator

from bandits.arrays import BoolArray, FloatArray, IntArray, row_starts

TIE = 1e-12  # relative: scores that equal sums make differ only by rounding are tied
NOTHING_LEFT = 1e-9  # of the reward's range: a mean this small is what subtracting leaves of none


def largest(scores: FloatArray, close: float = 0.0) -> BoolArray:
    """Mark the largest of finite scores (..., K), and all that tie with it.

    Args:
        scores: (..., K).
        close: a difference that is no difference, on top of rounding.
    """
    _, marked = _marked(scores, close)
    return marked.reshape(scores.shape)


def equal_shares(marked: BoolArray) -> FloatArray:
    """Give each marked arm of (..., K) the same share; rows sum to 1."""
    if np.count_nonzero(marked) * marked.shape[-1] == marked.size and marked.any(axis=-1).all():
        return marked.astype(np.float64)
    return marked / np.count_nonzero(marked, axis=-1, keepdims=True)


def draw_largest(scores: FloatArray, rng: Generator, close: float = 0.0) -> IntArray:
    """Draw one of the largest of finite scores (..., K), each of them with the same chance: (...).

    As `largest` and a draw, but written for simulations, which come here at every step.
    """
    first, marked = _marked(scores, close)
    if np.count_nonzero(marked) == first.size:
        return first
    lots = np.where(marked, rng.random(marked.shape), -1.0).reshape(scores.shape)
    return lots.argmax(axis=-1)


def _marked(scores: FloatArray, close: float) -> tuple[IntArray, BoolArray]:
    """Find the first of the largest of scores (..., K), (...), and mark all that tie, flat.

    Arms are few: numpy is much quicker along a long flat array than along a short last axis.
    """
    first, n_arms = scores.argmax(axis=-1), scores.shape[-1]
    flat = scores.reshape(-1)
    if first.size == 1:  # one recipient asks
        top = flat[first.item()]
        return first, flat >= top - (TIE * abs(top) + close)
    best = flat[row_starts(first.size, n_arms) + first.reshape(-1)]
    edge = best - TIE * np.abs(best)
    return first, flat >= (edge - close if close else edge).repeat(n_arms)
