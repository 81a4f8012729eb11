"""Thompson sampling for emails made of slots, whose variants learn from each other."""

from typing import ClassVar

from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.numerics.linear_posterior_draws import (
    LinearDraws,
    draws_contributions,
    draws_means,
    draws_sample,
)
from bandits.policy import Parameters, PosteriorDraws, RidgePenalty, Spread
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics.slot_ridge import SlotRidge


@register("slots_thompson", label="Thompson sampling over slots (personal)")
class SlotsThompson(Parameters, frozen=True):
    """Learn what each subject line, block or discount adds, whatever it is combined with.

    For emails of several slots, where 4 × 4 × 3 variants are 48 arms but only 11 things to learn.
    It takes the effects of slots to add up, for each recipient by their features. Choose a
    minimum share above 0: a version that no draw prefers is never sent otherwise.

    A Bayesian linear model in which each variant of a slot has its own weights on the context; one
    of M frozen posterior draws decides for each recipient, so that probabilities are exact shares
    of draws. Draws are N(θ̂, (spread · σ)² (λ + gram)⁻¹), σ² the variance around the fit, of which
    (range / 2)² is a first guess that counts once. Source: after Hill, Nassif, Liu, Iyer and
    Vishwanathan (2017), "An efficient bandit algorithm for realtime multivariate optimization";
    there it is a probit with interactions, and the best arm is searched for by hill climbing.
    """

    statistic: ClassVar[type[SlotRidge]] = SlotRidge

    spread: Spread = 1.0
    ridge: RidgePenalty = 1.0
    draws: PosteriorDraws = 1_000

    def prepare(
        self, statistic: SlotRidge, problem: Problem, upcoming: int, rng: Generator
    ) -> LinearDraws:
        """Fit the model; its draws are made when they are first needed."""
        return LinearDraws(statistic, problem, self.ridge, self.spread, rng, self.draws)

    def propensities(self, prepared: LinearDraws, contexts: FloatArray) -> FloatArray:
        """Return the share of draws that prefer each arm, (*lead, *batch, K)."""
        return prepared.shares(contexts)

    sample = draws_sample
    predictions = draws_means
    contributions = draws_contributions
