"""Epsilon-greedy: mostly the best so far, sometimes anything."""

from typing import Annotated, ClassVar

from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import Moments
from bandits.ties import equal_shares, largest


@register("epsilon_greedy", label="Epsilon-greedy")
class EpsilonGreedy(Parameters, frozen=True):
    """Send the variant with the best average so far, but a fixed part of sends at random.

    Easy to explain. It goes on spending that part on variants known to be bad, and it may follow a
    lucky start for long.

    Source: Sutton and Barto (2018), "Reinforcement learning", section 2.2.
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

    def prepare(
        self, known: Moments, problem: Problem, upcoming: int, rng: Generator
    ) -> FloatArray:
        """Return the probabilities (*lead, K); arms without data take the pooled mean."""
        greedy = equal_shares(largest(known.means))
        return self.epsilon / problem.n_arms + (1 - self.epsilon) * greedy

    def propensities(self, prepared: FloatArray, contexts: FloatArray) -> FloatArray:
        """Return the probabilities (*lead, K)."""
        return prepared
