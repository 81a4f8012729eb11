"""Greedy ridge: a regression per variant, and always the best prediction."""

from typing import ClassVar

from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import LinearFit
from bandits.numerics.linear_policy import linear_advance, linear_means
from bandits.numerics.ridge_fit import RidgeFit, contributions
from bandits.numerics.ties import NOTHING_LEFT, draw_largest, equal_shares, largest
from bandits.policy import Contributions, Parameters, RidgePenalty
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge


@register("greedy_ridge", label="Greedy regression (personal)")
class GreedyRidge(Parameters, frozen=True):
    """Send each recipient the variant that is predicted to be best for them, and try nothing out.

    For comparison, or where recipients differ so much that each variant is sent often enough
    anyway. It may never learn that it neglects a good variant.

    Source: Bastani, Bayati and Khosravi (2021), "Mostly exploration-free algorithms for contextual
    bandits", algorithm 1; there by least squares.
    """

    statistic: ClassVar[type[Ridge]] = Ridge

    ridge: RidgePenalty = 1.0

    def prepare(
        self, statistic: Ridge, problem: Problem, upcoming: int, rng: Generator
    ) -> tuple[LinearFit, float]:
        """Fit the regressions, and compute the difference of predictions that counts as a tie."""
        return RidgeFit(statistic.matured, self.ridge), NOTHING_LEFT * problem.span

    def propensities(self, prepared: tuple[LinearFit, float], contexts: FloatArray) -> FloatArray:
        """Return 1 for the best prediction, split equally among ties, (*lead, *batch, K)."""
        fit, close = prepared
        return equal_shares(largest(fit.means(contexts), close))

    def sample(
        self, prepared: tuple[LinearFit, float], contexts: FloatArray, rng: Generator
    ) -> IntArray:
        """Draw the best prediction."""
        fit, close = prepared
        return draw_largest(fit.means(contexts), rng, close)

    def contributions(
        self, prepared: tuple[LinearFit, float], context: FloatArray
    ) -> Contributions:
        """Split the prediction for one context (d,) by feature."""
        return contributions(prepared[0], context)

    predictions = linear_means
    advance = linear_advance
