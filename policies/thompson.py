"""Thompson sampling for rates: a Beta posterior for each arm."""

from typing import ClassVar

from numpy.random import Generator

from bandits.numerics.posterior import BetaPosterior, best_chances, sample_best
from bandits.policy import Parameters, PriorFailures, PriorSuccesses, advance_online
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("thompson", label="Thompson sampling", support=(0.0, 1.0), advised="rates")
class Thompson(Parameters, frozen=True):
    """Give each variant a share of sends as large as its chance to be the best.

    The place to start for opens and clicks: nothing to tune, good with feedback in waves or late.

    A reward r between 0 and 1 counts as r successes and 1 − r failures. Probabilities are exact, by
    quadrature. Source: Thompson (1933); Chapelle and Li (2011), "An empirical evaluation of
    Thompson sampling", algorithm 2; there rewards are 0 or 1.
    """

    statistic: ClassVar[type[Moments]] = Moments

    prior_successes: PriorSuccesses = 1.0
    prior_failures: PriorFailures = 1.0

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> BetaPosterior:
        """Add the prior to successes and failures."""
        return BetaPosterior.from_moments(statistic, self.prior_successes, self.prior_failures)

    propensities = best_chances
    sample = sample_best
    advance = advance_online
