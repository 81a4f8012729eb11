"""Bayes-UCB: a high quantile of the posterior of an arm's rate."""

from functools import partial
from typing import ClassVar

import numpy as np
from numpy.random import Generator
from scipy.special import betainccinv

from bandits.array_types import FloatArray
from bandits.numerics.batched_index import (
    BatchIndexState,
    IndexState,
    index_propensities,
    index_sample,
)
from bandits.policy import Parameters, PriorFailures, PriorSuccesses, advance_online
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments
from bandits.statistics.online_moments import MomentsView


@register("bayes_ucb", label="Bayes-UCB", support=(0.0, 1.0))
class BayesUCB(Parameters, frozen=True):
    """Send the variant that would do best if each did as well as it credibly can.

    For opens and clicks: about as good as Thompson sampling. It follows a formula where that one
    follows chance.

    The index is the quantile 1 − 1/t of the Beta posterior, with t the results of all arms, at
    least e. Sends without a result yet make it as narrow as if they had one, and leave its mean.
    Source: Kaufmann, Cappé and Garivier (2012), "On Bayesian upper confidence bounds for bandit
    problems", algorithm 1 with c = 0; there one arm is sent at a time.
    """

    statistic: ClassVar[type[Moments]] = Moments

    prior_successes: PriorSuccesses = 1.0
    prior_failures: PriorFailures = 1.0

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> IndexState:
        """Fix the index that sends are shared by."""
        return BatchIndexState(
            statistic, partial(_index, self.prior_successes, self.prior_failures), upcoming
        )

    propensities = index_propensities
    sample = index_sample
    advance = advance_online


def _index(alpha: float, beta: float, statistic: MomentsView, sends: FloatArray) -> FloatArray:
    """Take the quantile at the posterior's mean, as narrow as if all `sends` had matured."""
    prior = alpha + beta
    successes = np.clip(statistic.total, 0, statistic.count)
    mean = (alpha + successes) / (prior + statistic.count)
    tail, total = np.exp(-statistic.log_rounds), prior + sends
    return np.asarray(betainccinv(mean * total, (1 - mean) * total, tail), np.float64)
