"""Thompson sampling for rates: a Beta posterior for each arm."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray, IntArray
from bandits.policy import Parameters, draw_each, over_batch, per_arm
from bandits.problem import Problem
from bandits.quadrature import beta_chances
from bandits.registry import register
from bandits.statistics import Moments

_MANY = 100  # decisions per arm from which integrating once is cheaper than drawing variates


@dataclass(frozen=True)
class BetaPosterior:
    """A Beta(alpha, beta) for the rate of each arm, both (*lead, K)."""

    alpha: FloatArray
    beta: FloatArray

    @cached_property
    def chances(self) -> FloatArray:
        """The chance that each arm is the best, (*lead, K)."""
        return beta_chances(self.alpha, self.beta)


@register("thompson", label="Thompson sampling", support=(0.0, 1.0))
class Thompson(Parameters, frozen=True):
    """Give each variant as many sends as the chance that it is the best.

    The place to start for opens and clicks: nothing to tune, good with feedback in waves or late.

    A reward r between 0 and 1 counts as r successes and 1 − r failures. Probabilities are exact, by
    quadrature. Source: Thompson (1933); Chapelle and Li (2011), "An empirical evaluation of
    Thompson sampling", algorithm 2; there rewards are 0 or 1.
    """

    statistic: ClassVar[type[Moments]] = Moments

    prior_successes: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1e6,
            title="Prior successes",
            description="Successes of each arm assumed before the first real one: the prior's α.",
        ),
    ] = 1.0
    prior_failures: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1e6,
            title="Prior failures",
            description="Failures of each arm assumed before the first real one: the prior's β.",
        ),
    ] = 1.0

    def prepare(
        self, known: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> BetaPosterior:
        """Add the prior to successes and failures."""
        successes = np.clip(known.total, 0, known.count)  # subtracting may round to below 0
        return BetaPosterior(
            successes + self.prior_successes, known.count - successes + self.prior_failures
        )

    def propensities(self, prepared: BetaPosterior, contexts: FloatArray) -> FloatArray:
        """Return the chance that each arm is the best, (*lead, K)."""
        return prepared.chances

    def sample(self, prepared: BetaPosterior, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw the arm whose rate, drawn from its posterior, is the largest."""
        shape = per_arm(prepared.alpha, contexts)
        if prod(shape) > _MANY * prepared.alpha.size * shape[-1]:
            return draw_each(prepared.chances, contexts, rng)
        alpha, beta = over_batch(prepared.alpha, contexts), over_batch(prepared.beta, contexts)
        return rng.beta(alpha, beta, shape).argmax(axis=-1)

    def advance(
        self, prepared: BetaPosterior, arms: IntArray, rewards: FloatArray, contexts: FloatArray
    ) -> BetaPosterior:
        """Add each reward to successes, and what it lacks of 1 to failures."""
        cells = np.arange(arms.size) * prepared.alpha.shape[-1] + arms.reshape(-1)
        alpha, beta = prepared.alpha.copy(), prepared.beta.copy()
        alpha.reshape(-1)[cells] += np.reshape(rewards, -1)
        beta.reshape(-1)[cells] += 1 - np.reshape(rewards, -1)
        return BetaPosterior(alpha, beta)
