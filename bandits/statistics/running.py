"""Moments that learn in place, for simulations that come here at every step."""

from math import e, log
from typing import Protocol

import numpy as np

from bandits.arrays import FloatArray, IntArray, row_starts
from bandits.statistics.family import NOTHING
from bandits.statistics.moments import Moments


class Known(Protocol):
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

    def roots(self, sends: FloatArray) -> FloatArray:
        """Return 1 / √sends, (..., K)."""
        ...


class Running:
    """The moments of states side by side, each of which learns one observation at a time.

    Nothing may be pending. What is read is only good until something is learned.

    Attributes:
        count, total, square: as `Moments`.
        complete: whether every arm of every state has been seen.
    """

    def __init__(self, known: Moments) -> None:
        """Begin with what is known, and leave that as it is."""
        self.count, self.total = known.count.copy(), known.total.copy()
        self.square, self._pending = known.square.copy(), known.pending
        self._means = known.means.copy()
        self._roots = 1 / np.sqrt(np.maximum(self.count, NOTHING))
        kept = (self.count, self.total, self.square, self._means, self._roots)
        self._flat = [array.reshape(-1) for array in kept]
        rounds = known.rounds
        # A simulation's states have all learned as much, and a number is quicker than an array.
        alike = rounds.size > 0 and bool((rounds == rounds.flat[0]).all())
        self._rounds: FloatArray | float = rounds.item(0) if alike else rounds
        n_arms = self.count.shape[-1]
        self._starts = row_starts(self.count.size // max(1, n_arms), n_arms)
        self._one_each = np.ones(len(self._starts))  # quicker to add than a number
        self.complete = self._seen()

    def learn(self, arms: IntArray, rewards: FloatArray) -> None:
        """Add one observation of weight 1 to each state: arms, rewards (*lead,)."""
        cells, rewards = self._starts + arms.reshape(-1), rewards.reshape(-1)
        count, total, square, means, roots = self._flat
        count[cells] = n = count[cells] + self._one_each
        total[cells] = summed = total[cells] + rewards
        square[cells] = square[cells] + rewards * rewards
        means[cells] = summed / n
        roots[cells] = np.sqrt(np.reciprocal(n))
        self._rounds = self._rounds + 1.0
        if not self.complete:
            self.complete = self._seen()

    def _seen(self) -> bool:
        return bool(self.count.size) and bool(self.count.min() > NOTHING)

    @property
    def means(self) -> FloatArray:
        """As `Moments`."""
        return self._means if self.complete else self._frozen.means

    @property
    def variances(self) -> FloatArray:
        """As `Moments`."""
        return self._frozen.variances

    @property
    def log_rounds(self) -> FloatArray | float:
        """As `Moments`."""
        if isinstance(self._rounds, float):
            return log(self._rounds) if self._rounds > e else 1.0
        return np.log(np.maximum(self._rounds, e))

    def roots(self, sends: FloatArray) -> FloatArray:
        """As `Moments`; its own counts' are kept."""
        return self._roots if sends is self.count else 1 / np.sqrt(sends)

    @property
    def _frozen(self) -> Moments:
        return Moments(self.count, self.total, self.square, self._pending)
