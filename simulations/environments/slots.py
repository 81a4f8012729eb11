"""Emails made of slots: every combination of variants is an arm."""

from itertools import product
from math import prod
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import SFC64, Generator, SeedSequence
from scipy.special import expit, logit

from bandits.array_types import FloatArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.interfaces import BinaryRewards, Rounds

Effect = Annotated[float, Meta(ge=-20, le=20)]

MOST_ARMS = 1000


class Slots(Parameters, BinaryRewards, tag_field="kind", tag="slots", frozen=True, kw_only=False):
    """Each variant adds its effect to the log odds of a success; combinations may add their own."""

    effects: Annotated[
        tuple[Annotated[tuple[Effect, ...], Meta(min_length=1)], ...],
        Meta(min_length=1, description="for each slot, what each variant adds to the log odds"),
    ]
    rate: Annotated[
        float, Meta(gt=0, lt=1, description="success rate of an email whose effects sum to 0")
    ] = 0.2
    interaction: Annotated[
        float,
        Meta(ge=0, le=5, description="standard deviation of what a combination adds by itself"),
    ] = 0.0
    interaction_seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="which combinations go well together")
    ] = 0

    def __post_init__(self) -> None:
        """Check each field, and that there are not too many combinations.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        n_arms = prod(len(slot) for slot in self.effects)
        if n_arms > MOST_ARMS:
            raise InvalidInput.at("/effects", f"make {n_arms:,} emails, at most {MOST_ARMS:,}")

    @property
    def _levels(self) -> list[tuple[int, ...]]:
        return list(product(*(range(len(slot)) for slot in self.effects)))

    @property
    def problem(self) -> Problem:
        """One arm for each combination, rewards in [0, 1]."""
        levels = np.array(self._levels)
        return Problem(np.arange(len(levels)), levels, n_features=1)

    @property
    def arms(self) -> tuple[str, ...]:
        """The variants' numbers, as 1·2·1."""
        return tuple("·".join(str(level + 1) for level in levels) for levels in self._levels)

    @property
    def rates(self) -> FloatArray:
        """The success rate of each arm, (K,)."""
        sums = np.array([sum(effects) for effects in product(*self.effects)])
        rng = Generator(SFC64(SeedSequence(self.interaction_seed)))
        own = self.interaction * rng.standard_normal(len(sums))
        return expit(logit(self.rate) + sums + own)

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - all rounds are alike
        """Give the same truth for every round."""
        return Rounds(np.ones((1, 1)), self.rates[None])
