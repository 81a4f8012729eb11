"""Largest of scores, with ties split equally, always."""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from bandits.array_types import BoolArray, FloatArray, IntArray, row_starts

TIE = 2.0**-36  # relative: scores that equal sums make differ only by rounding are tied
_AHEAD = 2**15  # random numbers drawn at once: 256 KB
NOTHING_LEFT = 1e-9  # of the reward's range: a mean this small is the rounding of subtraction


def largest(scores: FloatArray, close: float = 0.0) -> BoolArray:
    """Mark the largest of finite scores (..., K), and all that tie with it.

    Args:
        scores: (..., K).
        close: a difference that counts as a tie, on top of rounding.
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

    As `largest` and a draw. A simulation that draws at every step keeps a `TieSampler`.
    """
    first, marked = _marked(scores, close)
    if np.count_nonzero(marked) == first.size:
        return first
    draws = np.where(marked, rng.random(marked.shape), -1.0).reshape(scores.shape)
    return draws.argmax(axis=-1)


class TieSampler:
    """Draws as of `draw_largest`, for a simulation that has as many scores at every step.

    Ties are not searched: each score is raised at random by up to 2^16 of the steps from one
    float to the next, so that scores which differ by rounding alone have the same chance. That is
    at most `TIE` of it: scores that `largest` would not call tied keep their order.

    Attributes:
        scores: an array for scores, of which a view is ready.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Draw among scores of this shape, (..., K)."""
        self.scores, self._raised = np.zeros(shape), np.zeros(shape)
        self._own, self._bits = self.scores.view(np.int64), self._raised.view(np.int64)
        self._steps = np.empty((max(1, _AHEAD // max(1, self._raised.size)), *shape), np.int64)
        self._ahead: Iterator[IntArray] = iter(())

    def draw_largest(self, scores: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest of finite scores (..., K): (...).

        None may be -0.0, whose bits are not next to those of 0.0: a sum with a width that is not
        negative never is.
        """
        steps = next(self._ahead, None)
        if steps is None:
            steps = self._draw_steps(rng)
        bits = self._own if scores is self.scores else scores.view(np.int64)
        np.add(bits, steps, self._bits)
        return self._raised.argmax(-1)

    def _draw_steps(self, rng: Generator) -> IntArray:
        steps = self._steps
        packed = rng.integers(2**64, size=-(-steps.size // 4), dtype=np.uint64)
        steps[...] = packed.view(np.uint16)[: steps.size].reshape(steps.shape)
        self._ahead = iter(steps)
        return next(self._ahead)


def _marked(scores: FloatArray, close: float) -> tuple[IntArray, BoolArray]:
    """Find the first of the largest of scores (..., K), (...), and mark all that tie, flat.

    Arms are few: numpy is much quicker along a long flat array than along a short last axis.
    """
    first, n_arms = scores.argmax(axis=-1), scores.shape[-1]
    flat = scores.reshape(-1)
    if first.size == 1:  # one recipient
        top = flat[first.item()]
        return first, flat >= top - (TIE * abs(top) + close)
    best = flat[row_starts(first.size, n_arms) + first.reshape(-1)]
    edge = best - TIE * np.abs(best)
    return first, flat >= (edge - close if close else edge).repeat(n_arms)
