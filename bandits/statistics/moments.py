"""Moments: counts and sums of rewards by arm, without context."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.additive import Additive, field_values
from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.statistic import NOTHING, pad_arms


@dataclass(frozen=True, slots=True, eq=False)
class Moments(Additive):
    """Sums of weights, rewards and squared rewards by arm, and of pending decisions, each (..., K).

    Attributes:
        count: Σ w, the matured observations.
        total: Σ w r.
        square: Σ w r².
        pending: sent decisions whose reward is not due yet.
    """

    count: FloatArray
    total: FloatArray
    square: FloatArray
    pending: FloatArray

    family: ClassVar[str] = "moments"
    contextual: ClassVar[bool] = False
    invertible: ClassVar[bool] = True
    timed: ClassVar[bool] = False

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,
    ) -> "Moments":
        """Sum n observations: arms, rewards, weights (..., n)."""
        weighted = weights * rewards
        count = _sums(problem.n_arms, arms, weights)
        return cls(
            count,
            _sums(problem.n_arms, arms, weighted),
            _sums(problem.n_arms, arms, weighted * rewards),
            np.zeros_like(count),
        )

    @classmethod
    def from_pending(
        cls,
        problem: Problem,
        arms: IntArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,
    ) -> "Moments":
        """Sum n decisions as pending: arms, weights (..., n)."""
        pending = _sums(problem.n_arms, arms, weights)
        none = np.zeros_like(pending)
        return cls(none, none, none, pending)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "Moments":
        """Make the statistic of no observation: fields (*lead, K)."""
        none = np.zeros((*lead, problem.n_arms))
        return cls(none, none, none, none)

    def take(self, arms: IntArray) -> "Moments":
        """Restrict to the arms at these positions."""
        return Moments(*(a[..., arms] for a in field_values(self)))

    def padded(self, problem: Problem) -> "Moments":
        """Append arms without observations until there are the problem's."""
        return Moments(*(pad_arms(a, problem.n_arms, axis=-1) for a in field_values(self)))

    def decayed(self, factor: float) -> "Moments":
        """Weigh the matured observations by `factor`."""
        return Moments(self.count * factor, self.total * factor, self.square * factor, self.pending)

    @property
    def means(self) -> FloatArray:
        """The mean reward by arm; an arm without data takes the pooled mean, or 0 without any."""
        if self.count.size and self.count.min() > NOTHING:
            return self.total / self.count
        out = np.broadcast_to(self.pooled_mean, self.count.shape).copy()
        return np.divide(self.total, self.count, out=out, where=self.count > NOTHING)

    @property
    def rounds(self) -> FloatArray:
        """Weight of the matured observations of all arms, (..., 1)."""
        return self.count @ np.ones((self.count.shape[-1], 1))  # faster than sum on a short axis

    @property
    def log_rounds(self) -> FloatArray:
        """The logarithm of `rounds`, (..., 1), at least 1."""
        return np.log(np.maximum(self.rounds, np.e))

    def bounds(self, width: FloatArray | float, sends: FloatArray) -> FloatArray:
        """Return mean + width / √sends, (..., K): width (..., 1) or one number."""
        return self.means + width / np.sqrt(sends)

    @property
    def variances(self) -> FloatArray:
        """The variance of rewards by arm; an arm without data takes that of all arms together."""
        square = self.square.sum(axis=-1, keepdims=True)
        count = self.rounds
        pooled = np.divide(square, count, out=np.zeros_like(count), where=count > NOTHING)
        out = np.broadcast_to(pooled, self.count.shape).copy()
        np.divide(self.square, self.count, out=out, where=self.count > NOTHING)
        return np.maximum(out - self.means**2, 0)

    @property
    def pooled_mean(self) -> FloatArray:
        """The mean reward over all arms, (..., 1); 0 without any data."""
        count = self.rounds
        total = self.total.sum(axis=-1, keepdims=True)
        return np.divide(total, count, out=np.zeros_like(count), where=count > NOTHING)

    def update(self, arms: IntArray, rewards: FloatArray) -> "Moments":
        """Add one observation of weight 1 to each state: arms, rewards (*lead,).

        The same as adding `from_observations`, but fast enough for every step of a simulation.
        """
        n_arms = self.count.shape[-1]
        cells = np.arange(arms.size) * n_arms + arms.reshape(-1)
        rewards = np.reshape(rewards, -1)
        out = Moments(self.count.copy(), self.total.copy(), self.square.copy(), self.pending)
        out.count.reshape(-1)[cells] += 1
        out.total.reshape(-1)[cells] += rewards
        out.square.reshape(-1)[cells] += rewards * rewards
        return out


def _sums(n_arms: int, arms: IntArray, values: FloatArray) -> FloatArray:
    """Sum values (..., n) by arm: (..., K), without building (..., n, K)."""
    lead = arms.shape[:-1]
    rows = int(np.prod(lead, dtype=np.int64))
    cells = arms.reshape(rows, -1) + n_arms * np.arange(rows)[:, None]
    flat = np.bincount(cells.ravel(), np.ravel(values), rows * n_arms)
    return flat.reshape(*lead, n_arms).astype(np.float64, copy=False)
