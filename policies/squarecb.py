"""SquareCB: the better the prediction, the larger the chance, by the inverse of the gap."""

from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray, IntArray
from bandits.numerics.linear import Regression, contributions
from bandits.numerics.linear_fit import Fit
from bandits.numerics.ties import NOTHING_LEFT, equal_shares, largest
from bandits.parameters import RidgePenalty
from bandits.policy import Contributions, Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge


class Prepared(NamedTuple):
    """The regressions, γ (*lead, 1) per unit of reward, and Σ x² (*lead, d) that it grows with."""

    fit: Fit
    greed: FloatArray
    squares: FloatArray
    span: float


@register("squarecb", label="SquareCB (personal)")
class SquareCB(Parameters, frozen=True):
    """Send each recipient mostly the variant predicted to be best; worse ones the less often.

    For recipients who differ; every variant keeps a chance that falls with its predicted loss.

    A variant whose prediction lies a gap below the best has the chance 1 / (K + γ · gap), the best
    take the rest; γ grows as c·t^ρ, with gaps in units of the reward's range. Source: Foster and
    Rakhlin (2020), "Beyond UCB: optimal and efficient contextual bandits with regression oracles",
    algorithm 1; there γ is fixed from a known horizon.
    """

    statistic: ClassVar[type[Ridge]] = Ridge

    scale: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            title="Greed",
            description="c: how strongly a better prediction is preferred.",
        ),
    ] = 10.0
    exponent: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            title="Growth of greed",
            description="ρ: how fast the preference grows with the number of results; 0 is fixed.",
        ),
    ] = 0.5
    ridge: RidgePenalty = 1.0

    def prepare(self, known: Ridge, problem: Problem, upcoming: int, rng: Generator) -> Prepared:
        """Fit the regressions; find how greedy to be."""
        squares = np.diagonal(known.gram, axis1=-2, axis2=-1).sum(axis=-2)
        return self._prepared(Regression(known.matured, self.ridge), squares, problem.span)

    def _prepared(self, fit: Fit, squares: FloatArray, span: float) -> Prepared:
        # The sum of squares of the constant feature is t, and no other's is larger within [-1, 1].
        rounds = squares.max(axis=-1, initial=1.0, keepdims=True)
        return Prepared(fit, self.scale * rounds**self.exponent / span, squares, span)

    def propensities(self, prepared: Prepared, contexts: FloatArray) -> FloatArray:
        """Return the probabilities (*lead, *batch, K)."""
        means, greed = prepared.fit.means(contexts), prepared.greed
        best = largest(means, NOTHING_LEFT * prepared.span)
        gaps = np.where(best, 0.0, means.max(axis=-1, keepdims=True) - means)
        greed = greed.reshape(*greed.shape[:-1], *(1,) * (means.ndim - greed.ndim), 1)
        chances = np.where(best, 0.0, 1 / (means.shape[-1] + greed * gaps))
        return chances + equal_shares(best) * (1 - chances.sum(axis=-1, keepdims=True))

    def advance(
        self, prepared: Prepared, arms: IntArray, rewards: FloatArray, contexts: FloatArray
    ) -> Prepared:
        """Learn one observation in each state."""
        fit, _, squares, span = prepared
        return self._prepared(fit.learned(arms, rewards, contexts), squares + contexts**2, span)

    def contributions(self, prepared: Prepared, context: FloatArray) -> Contributions:
        """Tell what each feature adds to a recipient's prediction."""
        return contributions(prepared.fit, context)
