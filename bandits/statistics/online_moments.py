"""Moments that learn in place, for simulations that come here at every step."""

from math import e, log
from typing import Protocol

import numpy as np

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.statistics.moments import Moments
from bandits.statistics.statistic import NOTHING


class MomentsView(Protocol):
    """What may be read of `Moments`, whether they are frozen or running."""

    @property
    def count(self) -> FloatArray:
        """Σ w, the observations learned, (..., K)."""
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
        """The logarithm of how much has been learned over all arms, (..., 1), at least 1."""
        ...

    def bounds(self, width: FloatArray | float, sends: FloatArray) -> FloatArray:
        """Return mean + width / √sends, (..., K): width (..., 1) or one number."""
        ...


class OnlineMoments:
    """The moments of states side by side, each of which learns one observation at a time.

    Nothing may be pending. What is read is only good until something is learned.

    Attributes:
        count, total, means, log_rounds: as `Moments`.
        complete: whether every arm of every state has been seen.
    """

    def __init__(self, known: Moments, place: FloatArray, *, squares: bool) -> None:
        """Begin with what is known, and leave that as it is.

        Args:
            known: what to begin with.
            place: where `bounds` are written, (..., K), each time anew.
            squares: whether squares are summed; without, there are no variances.
        """
        self.count, self.total = known.count.copy(), known.total.copy()
        self._square = known.square.copy() if squares else None
        self._pending = known.pending
        self._means = known.means.copy()
        self._roots = 1 / np.sqrt(np.maximum(self.count, NOTHING))
        kept = (self.count, self.total, self._means, self._roots)
        self._flat = [array.reshape(-1) for array in kept]
        rounds = known.rounds
        # A simulation's states have all learned as much, and a number is quicker than an array.
        alike = rounds.size > 0 and bool((rounds == rounds.flat[0]).all())
        self._rounds: FloatArray | float = rounds.item(0) if alike else rounds
        self._width, self._bounds = np.empty(() if alike else rounds.shape), place
        n_arms = self.count.shape[-1]
        self._starts = row_starts(self.count.size // max(1, n_arms), n_arms)
        self._one_each = np.ones(len(self._starts))  # quicker to add than a number
        self.complete = False
        self._look()

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
            self._look()

    def _look(self) -> None:
        """See whether every arm has been seen; while one has not, it takes the pooled mean."""
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
