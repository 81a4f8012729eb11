"""The largest of some scores, where ties are split equally, always."""

import numpy as np
from numpy.random import Generator

from bandits.arrays import BoolArray, FloatArray, IntArray

TIE = 1e-12  # relative: scores that equal sums make differ only by rounding are tied
NOTHING_LEFT = 1e-9  # of the reward's range: a mean this small is what subtracting leaves of none


def largest(scores: FloatArray, close: float = 0.0) -> BoolArray:
    """Mark the largest of finite scores (..., K), and all that tie with it.

    Args:
        scores: (..., K).
        close: a difference that is no difference, on top of rounding.
    """
    best = scores.max(axis=-1, keepdims=True)
    return scores >= best - (TIE * np.abs(best) + close)


def equal_shares(marked: BoolArray) -> FloatArray:
    """Give each marked arm of (..., K) the same share; rows sum to 1."""
    return marked / np.count_nonzero(marked, axis=-1, keepdims=True)


def draw_largest(scores: FloatArray, rng: Generator, close: float = 0.0) -> IntArray:
    """Draw one of the largest of finite scores (..., K), each of them with the same chance: (...).

    As `largest` and a draw, but written for simulations, which come here at every step.
    """
    first = scores.argmax(axis=-1)
    flat = scores.reshape(-1, scores.shape[-1])
    best = flat.reshape(-1)[np.arange(len(flat)) * flat.shape[-1] + first.reshape(-1)]
    marked = flat >= (best - (TIE * np.abs(best) + close))[:, None]
    if np.count_nonzero(marked) == len(flat):
        return first
    return np.where(marked, rng.random(flat.shape), -1.0).argmax(axis=-1).reshape(first.shape)
