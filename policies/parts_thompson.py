"""Thompson sampling for emails of several parts, whether or not their effects add up."""

from typing import ClassVar

from numpy.random import Generator

from bandits.numerics.parts_posterior import PartsPosterior
from bandits.numerics.posterior import best_chances, sample_best
from bandits.policy import Parameters, PosteriorDraws
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("parts_thompson", label="Thompson sampling by parts", advised="parts")
class PartsThompson(Parameters, frozen=True):
    """Learn what each subject line, block or discount adds, and how far these simply add up.

    For emails of several parts: where 4 × 4 × 3 variants are 48 versions, what one version earned
    tells something of all that share a part with it. How much is learned as well, so that a version
    which is more than the sum of its parts is found too. Choose a minimum share above 0: a version
    that no draw prefers is never sent otherwise.

    A hierarchical normal model of the versions' mean rewards with variance components for single
    variants, for pairs and for the rest, weighed by their marginal likelihood; one of M frozen
    posterior draws decides for each recipient, so that probabilities are exact shares of draws.
    It keeps the same sums as Thompson sampling, and can follow it in a running campaign. Source: of
    our own (ADR 64), of variance components as in Searle, Casella and McCulloch (1992), "Variance
    Components".
    """

    statistic: ClassVar[type[Moments]] = Moments

    draws: PosteriorDraws = 1_000

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> PartsPosterior:
        """Return the posterior; its draws are made when they are first needed."""
        return PartsPosterior(statistic, problem, rng, self.draws)

    propensities = best_chances
    sample = sample_best
