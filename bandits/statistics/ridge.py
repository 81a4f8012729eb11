"""What is learned by linear regression of the reward on the context, one for each arm."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.arrays import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.family import Additive, grown


@dataclass(frozen=True, slots=True, eq=False)
class Ridge(Additive):
    """Sufficient sums of a disjoint linear model: one regression per arm on the context x (d,).

    Attributes:
        gram: Σ w x xᵀ, (..., K, d, d).
        moment: Σ w r x, (..., K, d).
        pending: Σ x xᵀ over decisions whose reward is not due yet, (..., K, d, d).
    """

    gram: FloatArray
    moment: FloatArray
    pending: FloatArray

    family: ClassVar[str] = "ridge"
    contextual: ClassVar[bool] = True
    invertible: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> "Ridge":
        """Sum n observations: arms, rewards, weights (..., n), contexts (..., n, d)."""
        gram = grams_by_arm(problem, arms, contexts, weights)
        moment = vectors_by_arm(problem, arms, contexts, weights * rewards)
        return cls(gram, moment, np.zeros_like(gram))

    @classmethod
    def waiting(
        cls, problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
    ) -> "Ridge":
        """Sum n decisions as pending: arms, weights (..., n), contexts (..., n, d)."""
        pending = grams_by_arm(problem, arms, contexts, weights)
        return cls(np.zeros_like(pending), np.zeros(pending.shape[:-1]), pending)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "Ridge":
        """Make the statistic of no observation."""
        d = problem.n_features
        gram = np.zeros((*lead, problem.n_arms, d, d))
        return cls(gram, np.zeros((*lead, problem.n_arms, d)), gram)

    def take(self, arms: IntArray) -> "Ridge":
        """Restrict to the arms at these positions."""
        return Ridge(
            self.gram[..., arms, :, :], self.moment[..., arms, :], self.pending[..., arms, :, :]
        )

    def padded(self, problem: Problem) -> "Ridge":
        """Append arms nobody has seen until there are the problem's."""
        n_arms = problem.n_arms
        return Ridge(
            grown(self.gram, n_arms, axis=-3),
            grown(self.moment, n_arms, axis=-2),
            grown(self.pending, n_arms, axis=-3),
        )

    def decayed(self, factor: float) -> "Ridge":
        """Weigh everything learned by `factor`."""
        return Ridge(self.gram * factor, self.moment * factor, self.pending)

    @property
    def matured(self) -> "Ridge":
        """What has been learned, without what is pending."""
        return Ridge(self.gram, self.moment, np.zeros_like(self.pending))


def _rows_of(arms: IntArray, contexts: FloatArray) -> tuple[int, IntArray, FloatArray]:
    """Flatten leading axes: how many replications, arms (rows, n), contexts (rows, n, d)."""
    rows = int(np.prod(arms.shape[:-1], dtype=np.int64))
    n, d = contexts.shape[-2:]
    return rows, arms.reshape(rows, n), contexts.reshape(rows, n, d)


def grams_by_arm(
    problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
) -> FloatArray:
    """Sum w x xᵀ by arm: (..., K, d, d), one matrix product per arm that occurs."""
    rows, flat_arms, flat = _rows_of(arms, contexts)
    flat_weights = np.broadcast_to(weights, arms.shape).reshape(rows, -1)
    out = np.zeros((rows, problem.n_arms, problem.n_features, problem.n_features))
    if arms.shape[-1] == 1:  # one step of many replications: an outer product each
        x = flat[:, 0]
        out[np.arange(rows), flat_arms[:, 0]] = (flat_weights * x)[:, :, None] * x[:, None, :]
    else:
        for row in range(rows):
            for arm in np.unique(flat_arms[row]):
                chosen = flat_arms[row] == arm
                x = flat[row, chosen]
                out[row, arm] = (x * flat_weights[row, chosen, None]).T @ x
    return out.reshape(*arms.shape[:-1], *out.shape[1:])


def vectors_by_arm(
    problem: Problem, arms: IntArray, contexts: FloatArray, values: FloatArray
) -> FloatArray:
    """Sum v x by arm: (..., K, d)."""
    rows, flat_arms, flat = _rows_of(arms, contexts)
    flat_values = np.broadcast_to(values, arms.shape).reshape(rows, -1)
    out = np.zeros((rows, problem.n_arms, problem.n_features))
    if arms.shape[-1] == 1:
        out[np.arange(rows), flat_arms[:, 0]] = flat_values * flat[:, 0]
    else:
        for row in range(rows):
            for arm in np.unique(flat_arms[row]):
                chosen = flat_arms[row] == arm
                out[row, arm] = flat_values[row, chosen] @ flat[row, chosen]
    return out.reshape(*arms.shape[:-1], *out.shape[1:])
