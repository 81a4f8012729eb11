"""Logistic regression of a rate on the context, one for each arm."""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.ridge import products_by_arm
from bandits.statistics.statistic import NoPending, pad_arms

_MAX_STEPS = 100
_FARTHEST = 1.0  # a step in log odds within which the curvature stays alike, so that steps go up
_CONVERGED = 1e-10  # in log odds


@dataclass(frozen=True, slots=True, eq=False)
class LogisticSums(NoPending):
    """The log likelihood of each arm's weights, as a parabola around the most credible ones.

    Laplace's approximation: θ·shift - θᵀ precision θ / 2 has at the mode, under a prior N(0, 1/λ)
    on each weight, the likelihood's own slope and curvature; the prior itself is left out. Adding
    two of them is only near to fitting both together, so the family counts as one that cannot be
    subtracted from, and is fitted anew to the whole log. Pending decisions are not kept.

    Attributes:
        shift: (..., K, d).
        precision: Σ w p (1 - p) x xᵀ at the mode, (..., K, d, d).
        penalty: λ, of the class. The parabola is true around the mode under this prior alone.
    """

    shift: FloatArray
    precision: FloatArray

    family: ClassVar[str] = "logistic"
    contextual: ClassVar[bool] = True
    invertible: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    penalty: ClassVar[float] = 1.0

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,
        weights: FloatArray,
    ) -> "LogisticSums":
        """Fit n observations: arms, rewards in [0, 1], weights (..., n), contexts (..., n, d).

        By Newton's method, where no step changes any observation's log odds by more than 1: then
        each step raises the posterior, even for one-sided rewards.
        """
        if not arms.size:
            return cls.zeros(problem, arms.shape[:-1])
        weights = np.broadcast_to(weights, arms.shape)
        theta = np.zeros((*arms.shape[:-1], problem.n_arms, problem.n_features))
        odds = np.zeros(arms.shape)
        for _ in range(_MAX_STEPS):
            rates = expit(odds)
            curves = (weights * rates * (1 - rates))[..., None] * contexts
            slopes = (weights * (rewards - rates))[..., None]
            columns = np.concatenate([curves, slopes], axis=-1)
            sums = products_by_arm(problem, arms, contexts, columns)
            precision, slope = sums[..., :-1], sums[..., -1] - cls.penalty * theta
            curved = precision + cls.penalty * np.eye(problem.n_features)
            step = np.asarray(np.linalg.solve(curved, slope[..., None])[..., 0], np.float64)
            change = _odds(step, arms, contexts)
            shrink = _FARTHEST / np.maximum(_largest_by_arm(problem, arms, change), _FARTHEST)
            theta = theta + shrink[..., None] * step
            odds = _odds(theta, arms, contexts)
            if np.abs(change).max() < _CONVERGED:
                break
        # At the mode, the likelihood's slope is that of the prior, -λ θ, with its sign turned.
        shift = (precision @ theta[..., None])[..., 0] + cls.penalty * theta
        return cls(shift, precision)

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "LogisticSums":
        """Make the statistic of no observation."""
        shape = (*lead, problem.n_arms, problem.n_features)
        return cls(np.zeros(shape), np.zeros((*shape, problem.n_features)))

    def take(self, arms: IntArray) -> "LogisticSums":
        """Restrict to the arms at these positions."""
        return type(self)(self.shift[..., arms, :], self.precision[..., arms, :, :])

    def padded(self, problem: Problem) -> "LogisticSums":
        """Append arms without observations until there are the problem's."""
        n_arms = problem.n_arms
        shift, precision = self.shift, self.precision
        return type(self)(pad_arms(shift, n_arms, axis=-2), pad_arms(precision, n_arms, axis=-3))


@cache
def _bind_penalty(penalty: float) -> type[LogisticSums]:
    if penalty == LogisticSums.penalty:
        return LogisticSums
    return type("Logistic", (LogisticSums,), {"__slots__": (), "penalty": penalty})


class PenalisedFamily:
    """Descriptor of a policy class's `statistic`: the family with the policy's `ridge` as λ."""

    def __get__(self, policy: Any, owner: type | None = None) -> type[LogisticSums]:
        """Return the family; for the class, that of λ = 1."""
        return LogisticSums if policy is None else _bind_penalty(policy.ridge)


def _odds(theta: FloatArray, arms: IntArray, contexts: FloatArray) -> FloatArray:
    """Return the log odds x·θ of each observation's own arm, (..., n)."""
    return np.vecdot(np.take_along_axis(theta, arms[..., None], axis=-2), contexts)


def _largest_by_arm(problem: Problem, arms: IntArray, values: FloatArray) -> FloatArray:
    """Return the largest size of a value of each arm, (..., K); 0 without any."""
    flat = arms.reshape(-1, arms.shape[-1])
    out = np.zeros((len(flat), problem.n_arms))
    np.maximum.at(out, (np.arange(len(flat))[:, None], flat), np.abs(values).reshape(flat.shape))
    return out.reshape(*arms.shape[:-1], problem.n_arms)
