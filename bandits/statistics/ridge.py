"""Linear regression of the reward on the context, one for each arm."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.additive import Additive
from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.problem import Problem
from bandits.statistics.statistic import pad_arms

_AT_ONCE = 1 << 19  # values of contexts: 4 MB


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
    timed: ClassVar[bool] = False

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> "Ridge":
        """Sum n observations: arms, rewards, weights (..., n), contexts (..., n, d)."""
        weights = np.broadcast_to(weights, arms.shape)
        gram = np.zeros((*arms.shape[:-1], problem.n_arms, *2 * contexts.shape[-1:]))
        moment = np.zeros(gram.shape[:-1])
        for part in _parts(contexts):
            x, weighted = contexts[..., part, :], weights[..., part, None]
            columns = np.concatenate([weighted * x, weighted * rewards[..., part, None]], axis=-1)
            sums = products_by_arm(problem, arms[..., part], x, columns)
            gram += sums[..., :-1]
            moment += sums[..., -1]
        return cls(gram, moment, np.zeros_like(gram))

    @classmethod
    def from_pending(
        cls, problem: Problem, arms: IntArray, contexts: FloatArray, weights: FloatArray
    ) -> "Ridge":
        """Sum n decisions as pending: arms, weights (..., n), contexts (..., n, d)."""
        weights = np.broadcast_to(weights, arms.shape)
        pending = np.zeros((*arms.shape[:-1], problem.n_arms, *2 * contexts.shape[-1:]))
        for part in _parts(contexts):
            x = contexts[..., part, :]
            weighted = weights[..., part, None] * x
            pending += products_by_arm(problem, arms[..., part], x, weighted)
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
        """Append arms without observations until there are the problem's."""
        n_arms = problem.n_arms
        return Ridge(
            pad_arms(self.gram, n_arms, axis=-3),
            pad_arms(self.moment, n_arms, axis=-2),
            pad_arms(self.pending, n_arms, axis=-3),
        )

    def decayed(self, factor: float) -> "Ridge":
        """Weigh the matured observations by `factor`."""
        return Ridge(self.gram * factor, self.moment * factor, self.pending)

    @property
    def matured(self) -> "Ridge":
        """The statistic without pending decisions."""
        return Ridge(self.gram, self.moment, np.zeros_like(self.pending))


def _parts(contexts: FloatArray) -> list[slice]:
    """Cut the n observations of contexts (..., n, d) into parts that need little memory."""
    n = contexts.shape[-2]
    step = max(1, _AT_ONCE * n // max(1, contexts.size))
    return [slice(i, i + step) for i in range(0, n, step)]


def products_by_arm(
    problem: Problem, arms: IntArray, contexts: FloatArray, columns: FloatArray
) -> FloatArray:
    """Sum x cᵀ by arm, of contexts x (..., n, d) and columns c (..., n, m): (..., K, d, m).

    One matrix product per arm that occurs; the copies on the way are as large as the arguments.
    """
    d, m = problem.n_features, columns.shape[-1]
    out = np.zeros((*arms.shape[:-1], problem.n_arms, d, m))
    sums = out.reshape(-1, d, m)
    rows, cells, starts = _sorted_by_arm(problem, arms)
    x, columns = contexts.reshape(-1, d)[rows], columns.reshape(-1, m)[rows]
    if len(cells) == len(rows):  # one step of many replications: an outer product each
        sums[cells] = x[:, :, None] * columns[:, None, :]
        return out
    stops = [*starts[1:], len(rows)]
    for cell, start, stop in zip(cells.tolist(), starts, stops, strict=True):
        sums[cell] = x[start:stop].T @ columns[start:stop]
    return out


def _sorted_by_arm(problem: Problem, arms: IntArray) -> tuple[IntArray, IntArray, list[int]]:
    """Sort observations by state and arm: their order, the cells that occur, and their starts.

    Positions are in the arrays laid out flat, observations (..., n) and arms (..., K).
    """
    n = arms.shape[-1]
    states = arms.size // n if n else 0
    cells = (arms.reshape(states, n) + row_starts(states, problem.n_arms)[:, None]).reshape(-1)
    # Few bits are sorted in linear time.
    order = np.argsort(cells.astype(np.min_scalar_type(states * problem.n_arms)), kind="stable")
    ordered = cells[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return order, ordered[starts], starts.tolist()
