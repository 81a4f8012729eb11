"""Success rates that depend on the recipient, by a logistic model for each arm."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import SFC64, Generator, SeedSequence
from scipy.special import expit, logit

from bandits.array_types import FloatArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.interfaces import BinaryRewards, Rounds, numbered_arms

Weight = Annotated[float, Meta(ge=-100, le=100)]


class Logistic(
    Parameters, BinaryRewards, tag_field="kind", tag="logistic", frozen=True, kw_only=False
):
    """An arm succeeds with probability 1 / (1 + exp(−w·x)), w the arm's own and x the recipient's.

    The first feature is 1, the others are uniform on [0, 1], as the engine scales numbers.
    """

    coefficients: Annotated[
        tuple[Annotated[tuple[Weight, ...], Meta(min_length=1)], ...],
        Meta(min_length=1, description="for each arm its log odds, then one weight per feature"),
    ]

    def __post_init__(self) -> None:
        """Check each field, and that all arms have as many weights.

        Raises:
            InvalidInput: naming the arm that has not.
        """
        Parameters.__post_init__(self)
        width = len(self.coefficients[0])
        for arm, row in enumerate(self.coefficients):
            if len(row) != width:
                raise InvalidInput.at(
                    f"/coefficients/{arm}", f"has {len(row)} weights, the first arm {width}"
                )

    @classmethod
    def drawn(
        cls, n_arms: int, n_features: int, *, rate: float = 0.2, effect: float = 1.0, seed: int = 0
    ) -> "Logistic":
        """Draw weights N(0, effect²) around log odds that give the `rate` for the middle recipient.

        Args:
            n_arms: K.
            n_features: features besides the leading 1.
            rate: success rate of every arm where every feature is .5.
            effect: standard deviation of a weight, in log odds.
            seed: the same seed gives the same weights.
        """
        rng = Generator(SFC64(SeedSequence(seed)))
        weights = rng.normal(0.0, effect, (n_arms, n_features))
        odds = logit(rate) - weights.sum(axis=1, keepdims=True) / 2
        rows = np.concatenate([odds, weights], axis=1)
        return cls(tuple(tuple(row) for row in rows.tolist()))

    @property
    def problem(self) -> Problem:
        """K arms, d features, rewards in [0, 1]."""
        return Problem.of(len(self.coefficients), len(self.coefficients[0]))

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered_arms(len(self.coefficients))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - nothing changes with time
        """Draw n recipients: contexts (n, d), means (n, K)."""
        contexts: FloatArray = rng.random((n, len(self.coefficients[0])))
        contexts[:, 0] = 1.0
        return Rounds(contexts, expit(contexts @ np.array(self.coefficients).T))
