"""Epsilon-greedy: mostly the best arm so far, sometimes a random one."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.numerics.ties import equal_shares, largest
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments


@register("epsilon_greedy", label="Epsilon-greedy")
class EpsilonGreedy(Parameters, frozen=True):
    """Send the variant with the best average so far, but a part of sends at random.

    Easy to explain. It goes on spending that part on variants known to be bad, and it may follow a
    lucky start for long.

    Source: Sutton and Barto (2018), "Reinforcement learning", section 2.2; decaying as in Auer,
    Cesa-Bianchi and Fischer (2002), figure 3, where the part is min(1, cK / (d² t)).
    """

    statistic: ClassVar[type[Moments]] = Moments

    epsilon: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            title="Random part",
            description="The part of sends that is split equally among all arms.",
        ),
    ] = 0.1
    decay_after: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            title="Decays after",
            description="Results after which the random part falls as 1/t; 0 means never.",
        ),
    ] = 0.0

    def prepare(
        self, statistic: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> FloatArray:
        """Return the probabilities (*lead, K); arms without data take the pooled mean."""
        greedy = equal_shares(largest(statistic.means))
        late = (self.decay_after > 0) & (statistic.rounds > self.decay_after)
        epsilon = self.epsilon * np.where(
            late, self.decay_after / np.maximum(statistic.rounds, 1), 1.0
        )
        return epsilon / problem.n_arms + (1 - epsilon) * greedy

    def propensities(self, prepared: FloatArray, contexts: FloatArray) -> FloatArray:
        """Return the probabilities (*lead, K)."""
        return prepared
