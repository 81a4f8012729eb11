"""Moments that learn in place, for every step of a simulation."""

from math import e, log
from typing import Protocol

import numpy as np

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.statistics.moments import Moments
from bandits.statistics.statistic import NOTHING


class MomentsView(Protocol):
    """Read-only view of `Moments` or `OnlineMoments`."""

    @property
    def count(self) -> FloatArray:
        """Σ w, the matured observations, (..., K)."""
        ...

    @property
    def total(self) -> FloatArray:
        """Σ w r, (..., K)."""
        ...

    @property
    def means(self) -> FloatArray:
        """The mean reward by arm, (..., K)."""
        ...

    @property
    def variances(self) -> FloatArray:
        """The variance of rewards by arm, (..., K)."""
        ...

    @property
    def log_rounds(self) -> FloatArray | float:
        """The logarithm of Σ w over all arms, (..., 1), at least 1."""
        ...

    def bounds(self, width: FloatArray | float, sends: FloatArray) -> FloatArray:
        """Return mean + width / √sends, (..., K): width (..., 1) or one number."""
        ...


class OnlineMoments:
    """Moments of states side by side, each of which learns one observation at a time.

    Nothing may be pending. An array that is read holds only until the next observation.

    Attributes:
        count, total, means, log_rounds: as `Moments`.
        complete: true where every arm of every state has an observation.
    """

    def __init__(self, statistic: Moments, place: FloatArray, *, squares: bool) -> None:
        """Start from moments, which stay as they are.

        Args:
            statistic: the moments.
            place: the array that `bounds` are written to, (..., K), each time anew.
            squares: true where squares are summed; without, there are no variances.
        """
        self.count, self.total = statistic.count.copy(), statistic.total.copy()
        self._square = statistic.square.copy() if squares else None
        self._pending = statistic.pending
        self._means = statistic.means.copy()
        self._roots = 1 / np.sqrt(np.maximum(self.count, NOTHING))
        arrays = (self.count, self.total, self._means, self._roots)
        self._flat = [array.reshape(-1) for array in arrays]
        rounds = statistic.rounds
        # A simulation's states have all learned as much, and a number is quicker than an array.
        alike = rounds.size > 0 and bool((rounds == rounds.flat[0]).all())
        self._rounds: FloatArray | float = rounds.item(0) if alike else rounds
        self._width, self._bounds = np.empty(() if alike else rounds.shape), place
        n_arms = self.count.shape[-1]
        self._starts = row_starts(self.count.size // max(1, n_arms), n_arms)
        self._one_each = np.ones(len(self._starts))  # quicker to add than a number
        self.complete = False
        self._check_complete()

    def learn(self, arms: IntArray, rewards: FloatArray) -> None:
        """Add one observation of weight 1 to each state: arms, rewards (*lead,)."""
        if arms.ndim != 1:
            arms, rewards = arms.reshape(-1), rewards.reshape(-1)
        cells = self._starts + arms
        count, total, means, roots = self._flat
        n, summed = count[cells], total[cells]
        n += self._one_each
        summed += rewards
        count[cells], total[cells] = n, summed
        summed /= n
        means[cells] = summed
        roots[cells] = np.sqrt(np.reciprocal(n, n), n)
        if self._square is not None:
            self._square.reshape(-1)[cells] += rewards * rewards
        self._rounds = self._rounds + 1.0
        if not self.complete:
            self._check_complete()

    def _check_complete(self) -> None:
        """Check that every arm has an observation; an arm without takes the pooled mean."""
        self.complete = bool(self.count.size) and bool(self.count.min() > NOTHING)
        self.means: FloatArray = self._means if self.complete else self._frozen(self.total).means

    @property
    def log_rounds(self) -> FloatArray | float:
        """As `Moments`."""
        rounds = self._rounds
        if isinstance(rounds, float):
            return log(rounds) if rounds > e else 1.0
        return np.log(np.maximum(rounds, e))

    @property
    def variances(self) -> FloatArray:
        """As `Moments`, where squares are summed."""
        if self._square is None:
            raise ValueError("squares are not summed here")
        return self._frozen(self._square).variances

    def bounds(self, width: FloatArray | float, sends: FloatArray) -> FloatArray:
        """As `Moments`; those at its own counts are written to `place`."""
        if sends is not self.count:
            return self.means + width / np.sqrt(sends)
        self._width[...] = width
        np.multiply(self._roots, self._width, self._bounds)
        return np.add(self._bounds, self.means, self._bounds)

    def _frozen(self, square: FloatArray) -> Moments:
        return Moments(self.count, self.total, square, self._pending)
