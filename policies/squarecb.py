"""SquareCB: the better the prediction, the larger the chance, by the inverse of the gap."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.numerics.inverse_gap import (
    InverseGap,
    gap_advance,
    gap_chances,
    gap_contributions,
    gap_means,
)
from bandits.policy import Parameters, RidgePenalty
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge


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

    def prepare(
        self, statistic: Ridge, problem: Problem, upcoming: int, rng: Generator
    ) -> InverseGap:
        """Fit the regressions, and compute the greed."""
        return InverseGap.from_ridge(statistic, problem.span, self.ridge, self.scale, self.exponent)

    propensities = gap_chances
    predictions = gap_means
    advance = gap_advance
    contributions = gap_contributions
