"""Constant success rates, one per arm: the textbook's bandit."""

from functools import lru_cache
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.interfaces import BinaryRewards, Rounds, numbered_arms

Rate = Annotated[float, Meta(ge=0, le=1)]


class Bernoulli(
    Parameters, BinaryRewards, tag_field="kind", tag="bernoulli", frozen=True, kw_only=False
):
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
        return numbered_arms(len(self.means))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - all rounds are alike
        """Give the same truth for every round."""
        return _constant(self.means)


@lru_cache(maxsize=16)
def _constant(means: tuple[float, ...]) -> Rounds:
    """Make the rounds that every replication asks for, again and again."""
    return Rounds(np.ones((1, 1)), np.array([means]))
