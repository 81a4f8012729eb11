"""Linear Thompson sampling: a regression per variant, with its uncertainty."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_policy import (
    FitAndWidth,
    linear_advance,
    linear_contributions,
    linear_means,
    means_and_reach,
)
from bandits.numerics.quadrature import normal_chances
from bandits.numerics.ridge_fit import RidgeFit
from bandits.policy import Parameters, RidgePenalty
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge


@register("lints", label="Linear Thompson sampling (personal)", advised="recipients")
class LinTS(Parameters, frozen=True):
    """Give each recipient each variant with the chance that it is the best for such a recipient.

    For recipients who differ, with feedback in waves or late: it varies what it sends by itself.

    The weights of each variant are normal, θ ~ N(θ̂, v² (λ + gram)⁻¹), independent of the others'
    (disjoint), so the chances are exact, by quadrature for each recipient. Source: Agrawal and
    Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", algorithm 1;
    there the variants share one vector of weights, and v is ruinously large.
    """

    statistic: ClassVar[type[Ridge]] = Ridge

    v: Annotated[
        float,
        Meta(
            ge=1e-6,
            le=100,
            title="Spread",
            description="How much the unknown is explored, in units of the reward's range; .1 to"
            " .25 of the reward's standard deviation is a good start.",
        ),
    ] = 0.1
    ridge: RidgePenalty = 1.0

    def prepare(
        self, statistic: Ridge, problem: Problem, upcoming: int, rng: Generator
    ) -> FitAndWidth:
        """Fit the regressions to matured observations; pending decisions do not count."""
        return RidgeFit(statistic.matured, self.ridge), self.v * problem.span

    def propensities(self, prepared: FitAndWidth, contexts: FloatArray) -> FloatArray:
        """Return the chance that each arm is the best, (*lead, *batch, K)."""
        return normal_chances(*means_and_reach(prepared, contexts))

    def sample(self, prepared: FitAndWidth, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm whose reward, drawn from its posterior, is the largest."""
        means, widths = means_and_reach(prepared, contexts)
        return (means + widths * rng.standard_normal(means.shape)).argmax(axis=-1)

    predictions = linear_means
    contributions = linear_contributions
    advance = linear_advance
