"""Inverse gap weighting: the chance of an arm falls with its predicted loss."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import LinearFit
from bandits.numerics.ridge_fit import RidgeFit, contributions
from bandits.numerics.ties import NOTHING_LEFT, equal_shares, largest
from bandits.policy import Contributions
from bandits.statistics import Ridge


@dataclass(frozen=True)
class InverseGap:
    """Regressions, and their greed: γ = c·t^ρ per unit of the reward's range.

    Attributes:
        fit: predicts rewards.
        squares: Σ x² of the matured observations, (*lead, d). That of the constant feature is t,
            and no other's is larger within [-1, 1].
        span: the reward's range.
        scale: c.
        exponent: ρ.
    """

    fit: LinearFit
    squares: FloatArray
    span: float
    scale: float
    exponent: float

    @classmethod
    def from_ridge(
        cls, statistic: Ridge, span: float, ridge: float, scale: float, exponent: float
    ) -> Self:
        """Fit the matured observations, under the penalty λ."""
        squares = np.diagonal(statistic.gram, axis1=-2, axis2=-1).sum(axis=-2)
        return cls(RidgeFit(statistic.matured, ridge), squares, span, scale, exponent)

    @property
    def greed(self) -> FloatArray:
        """The weight of a gap now: γ, (*lead, 1)."""
        rounds = self.squares.max(axis=-1, initial=1.0, keepdims=True)
        return self.scale * rounds**self.exponent / self.span

    def chances(self, contexts: FloatArray) -> FloatArray:
        """Return 1 / (K + γ · gap), and the rest to the best arms, (*lead, *batch, K)."""
        means, greed = self.fit.means(contexts), self.greed
        greed = greed.reshape(*greed.shape[:-1], *(1,) * (means.ndim - greed.ndim), 1)
        best = largest(means, NOTHING_LEFT * self.span)
        gaps = np.where(best, 0.0, means.max(axis=-1, keepdims=True) - means)
        chances = np.where(best, 0.0, 1 / (means.shape[-1] + greed * gaps))
        return chances + equal_shares(best) * (1 - chances.sum(axis=-1, keepdims=True))

    def update(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> "InverseGap":
        """Learn one observation in each state. Use the result only."""
        fit = self.fit.update(arms, rewards, contexts)
        return replace(self, fit=fit, squares=self.squares + contexts**2)


def gap_chances(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: InverseGap,
    contexts: FloatArray,
) -> FloatArray:
    """Return the probabilities (*lead, *batch, K)."""
    return prepared.chances(contexts)


def gap_means(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: InverseGap,
    contexts: FloatArray,
) -> FloatArray:
    """Return the predictions (*lead, *batch, K)."""
    return prepared.fit.means(contexts)


def gap_advance(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: InverseGap,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,
) -> InverseGap:
    """Learn one observation in each state."""
    return prepared.update(arms, rewards, contexts)


def gap_contributions(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: InverseGap,
    context: FloatArray,
) -> Contributions:
    """Split the prediction for one context (d,) by feature."""
    return contributions(prepared.fit, context)
