"""LinUCB: a regression per variant, plus a bound for its uncertainty at such a recipient."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_policy import (
    FitAndWidth,
    linear_advance,
    linear_contributions,
    linear_means,
)
from bandits.numerics.ridge_fit import RidgeFit
from bandits.numerics.ties import equal_shares, largest
from bandits.policy import Parameters, RidgePenalty
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge


@register("linucb", label="LinUCB (personal)")
class LinUCB(Parameters, frozen=True):
    """Send each recipient the variant that could be the best for such a recipient.

    For recipients who differ in their features.

    Each variant has its own regression of the reward on the context (disjoint). Source: Li, Chu,
    Langford and Schapire (2010), "A contextual-bandit approach to personalized news article
    recommendation", algorithm 1; there λ is 1, and decisions without feedback yet do not count:
    here they narrow the width.
    """

    statistic: ClassVar[type[Ridge]] = Ridge

    alpha: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            title="Width",
            description="How much the unknown is explored, in units of the reward's range.",
        ),
    ] = 0.25
    ridge: RidgePenalty = 1.0

    def prepare(
        self, statistic: Ridge, problem: Problem, upcoming: int, rng: Generator
    ) -> FitAndWidth:
        """Fit the regressions; the width is α times the reward's range."""
        return RidgeFit(statistic, self.ridge), self.alpha * problem.span

    def propensities(self, prepared: FitAndWidth, contexts: FloatArray) -> FloatArray:
        """Return 1 for the largest bound, split equally among ties, (*lead, *batch, K)."""
        fit, reach = prepared
        return equal_shares(largest(fit.bounds(contexts, reach)))

    def sample(self, prepared: FitAndWidth, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm of the largest bound."""
        fit, reach = prepared
        return fit.draw_bound(contexts, reach, rng)

    predictions = linear_means
    contributions = linear_contributions
    advance = linear_advance
