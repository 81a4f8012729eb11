"""Softmax: the better the average, the larger the share."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("softmax", label="Softmax")
class Softmax(Parameters, frozen=True):
    """Send every variant; how much better one does decides how much more often it is sent.

    For when no variant should vanish. It never becomes surer as results come in, so it neither
    settles on the best nor explores the unknown in particular.

    Shares are in proportion to exp(mean / τ). Source: Luce (1959), "Individual choice behavior";
    Sutton and Barto (2018), "Reinforcement learning", equation 2.11, with the mean as preference.
    """

    statistic: ClassVar[type[Moments]] = Moments

    temperature: Annotated[
        float,
        Meta(
            ge=1e-6,
            le=1e3,
            title="Temperature",
            description="τ: the difference, in units of the reward's range, that makes one arm"
            " 2.7 times as frequent as another.",
        ),
    ] = 0.01

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> FloatArray:
        """Return the shares (*lead, K); arms without data take the pooled mean."""
        scores = statistic.means / (self.temperature * problem.span)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def propensities(self, prepared: FloatArray, contexts: FloatArray) -> FloatArray:
        """Return the shares (*lead, K)."""
        return prepared
