"""Logistic Thompson sampling: the odds of a click by variant, with their uncertainty."""

from typing import ClassVar, cast

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import LinearFit
from bandits.numerics.quadrature import normal_chances
from bandits.numerics.ridge_fit import RidgeFit, contributions, mean_rates
from bandits.policy import Contributions, Parameters, RidgePenalty, Spread
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Ridge
from bandits.statistics.logistic import LogisticSums, PenalisedFamily


@register("logistic_thompson", label="Logistic Thompson sampling (personal)", support=(0.0, 1.0))
class LogisticThompson(Parameters, frozen=True):
    """Give each recipient each variant with the chance that they would most likely act on it.

    For opens and clicks that depend much on the recipient: it models odds, which keep small
    rates apart where a straight line cannot. Every update fits the whole log anew, so it suits
    smaller campaigns.

    The weights of each variant, a priori N(0, 1/λ), have Laplace's approximation of their
    posterior, independent of the others', so the chances are exact for it, by quadrature for each
    recipient. Source: Chapelle and Li (2011), "An empirical evaluation of Thompson sampling",
    algorithm 3; there the precision is diagonal and each batch is fitted on top of the one before.
    """

    statistic: ClassVar[type[LogisticSums]] = cast("type[LogisticSums]", PenalisedFamily())

    spread: Spread = 1.0
    ridge: RidgePenalty = 1.0

    def prepare(
        self, statistic: LogisticSums, problem: Problem, upcoming: int, rng: Generator
    ) -> LinearFit:
        """Add the prior of the fit; another λ applies once the log is fitted anew."""
        nothing = np.zeros_like(statistic.precision)
        return RidgeFit(Ridge(statistic.precision, statistic.shift, nothing), statistic.penalty)

    def propensities(self, prepared: LinearFit, contexts: FloatArray) -> FloatArray:
        """Return the chance that each arm is the best, (*lead, *batch, K)."""
        means, widths = prepared.predict(contexts)
        return normal_chances(means, self.spread * widths)

    def sample(self, prepared: LinearFit, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm whose log odds, drawn from their posterior, are the largest."""
        means, widths = prepared.predict(contexts)
        return (means + self.spread * widths * rng.standard_normal(means.shape)).argmax(axis=-1)

    def predictions(self, prepared: LinearFit, contexts: FloatArray) -> FloatArray:
        """Return the mean of each arm's rate, (*lead, *batch, K)."""
        return mean_rates(prepared, contexts, self.spread)

    def contributions(self, prepared: LinearFit, context: FloatArray) -> Contributions:
        """Split the log odds of a success for one context (d,) by feature."""
        return contributions(prepared, context, self.spread, log_odds=True)
