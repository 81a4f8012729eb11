"""Fixed split: the shares of an A/B test while it runs."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("uniform", label="Fixed split (A/B test)", advised="nothing in time")
class Uniform(Parameters, frozen=True):
    """Send fixed shares for as long as the campaign runs, whatever comes back.

    This is an A/B test: it measures every variant equally well and earns nothing while it does.
    Stop it when the result is clear and ship the winner yourself.

    Source: Fisher (1935), "The design of experiments", chapter 2.
    """

    statistic: ClassVar[type[Moments]] = Moments

    weights: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1e6)], ...],
        Meta(
            max_length=500,
            title="Weights",
            description="How much each arm gets relative to the others, in the experiment's order"
            " of arms; none given means equal shares, and an arm beyond the list gets their mean.",
        ),
    ] = ()

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> FloatArray:
        """Return the shares (*lead, K); equal ones where no eligible arm has a weight above 0."""
        weights = np.full(problem.n_arms, np.mean(self.weights) if self.weights else 1.0)
        listed = problem.arms < len(self.weights)
        weights[listed] = np.asarray(self.weights)[problem.arms[listed]]
        if not weights.any():
            weights[:] = 1.0
        return np.broadcast_to(weights / weights.sum(), statistic.count.shape)

    def propensities(self, prepared: FloatArray, contexts: FloatArray) -> FloatArray:
        """Return the shares (*lead, K)."""
        return prepared

    def advance(
        self, prepared: FloatArray, arms: FloatArray, rewards: FloatArray, contexts: FloatArray
    ) -> FloatArray:
        """Learn nothing."""
        return prepared
