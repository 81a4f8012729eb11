"""The largest of some scores, where ties are split equally, always."""

import numpy as np
from numpy.random import Generator

from bandits.arrays import BoolArray, FloatArray, IntArray

TIE = 1e-12  # relative: scores that equal sums make differ only by rounding are tied


def largest(scores: FloatArray) -> BoolArray:
    """Mark the largest of finite scores (..., K), and all that tie with it."""
    best = scores.max(axis=-1, keepdims=True)
    return scores >= best - TIE * np.abs(best)


def equal_shares(marked: BoolArray) -> FloatArray:
    """Give each marked arm of (..., K) the same share; rows sum to 1."""
    return marked / np.count_nonzero(marked, axis=-1, keepdims=True)


def pick(marked: BoolArray, rng: Generator) -> IntArray:
    """Draw one of the marked arms of (..., K), each with the same chance: (...)."""
    if np.count_nonzero(marked) * marked.shape[-1] == marked.size:
        return marked.argmax(axis=-1)
    return np.where(marked, rng.random(marked.shape), -1.0).argmax(axis=-1)
