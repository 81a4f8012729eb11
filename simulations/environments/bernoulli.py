"""Constant success rates, one per arm: the textbook's bandit."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.contract import Rounds, numbered

Rate = Annotated[float, Meta(ge=0, le=1)]


class Binary:
    """The luck of rewards that are 0 or 1, for environments whose means are success rates.

    One uniform a round serves every arm, so that an arm with a higher rate never does worse. As
    only one arm of a round is ever seen, how the arms' luck hangs together changes no policy's law;
    sharing it makes the difference between two policies as quiet as it can be.
    """

    __slots__ = ()

    def luck(self, n: int, rng: Generator) -> FloatArray:
        """Draw n uniforms."""
        return rng.random(n)

    def reward(self, means: FloatArray, luck: FloatArray) -> FloatArray:
        """Succeed where the uniform lies below the rate."""
        return (luck < means).astype(np.float64)

    def rewards(self, means: FloatArray, rng: Generator) -> FloatArray:
        """Draw 0 or 1 for each arm: (n, K)."""
        return self.reward(means, self.luck(len(means), rng)[:, None])


class Bernoulli(Parameters, Binary, tag_field="kind", tag="bernoulli", frozen=True, kw_only=False):
    """Rewards are 1 with a rate that is the arm's own and never changes, else 0."""

    means: Annotated[
        tuple[Rate, ...], Meta(min_length=1, description="success rate of each arm, in [0, 1]")
    ]

    @property
    def problem(self) -> Problem:
        """K arms, rewards in [0, 1]."""
        return Problem.of(len(self.means), n_features=1)

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered(len(self.means))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - all rounds are alike
        """Give the same truth for every round."""
        return Rounds(np.ones((1, 1)), np.array([self.means]))
