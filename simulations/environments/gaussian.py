"""Rewards that scatter around a mean, as revenue per email does in the long run."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.interfaces import Rounds, SharedRoundSource, numbered_arms

Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Deviation = Annotated[float, Meta(gt=0, le=1e9)]

_FAR = 4.0  # standard deviations beyond which hardly a reward lies


class Gaussian(
    Parameters, SharedRoundSource, tag_field="kind", tag="gaussian", frozen=True, kw_only=False
):
    """Rewards are normal around a mean that is the arm's own and never changes."""

    means: Annotated[tuple[Number, ...], Meta(min_length=1, description="mean reward of each arm")]
    sd: Annotated[
        Deviation | tuple[Deviation, ...],
        Meta(description="standard deviation of a reward: one for all arms, or each arm's"),
    ] = 1.0
    low: Annotated[
        Number | None,
        Meta(description="smallest reward for policies that need one; by default 4 sd below"),
    ] = None
    high: Annotated[
        Number | None,
        Meta(description="largest reward for policies that need one; by default 4 sd above"),
    ] = None

    def __post_init__(self) -> None:
        """Check each field, and that they fit each other.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if isinstance(self.sd, tuple) and len(self.sd) != len(self.means):
            raise InvalidInput.at("/sd", f"has {len(self.sd)} numbers, means {len(self.means)}")
        if self.problem.low >= self.problem.high:
            raise InvalidInput.at("/high", "must be above low")

    @property
    def _sds(self) -> FloatArray:
        return np.broadcast_to(np.array(self.sd, dtype=np.float64), len(self.means))

    @property
    def problem(self) -> Problem:
        """K arms; policies use the bounds, rewards are not held to them."""
        means = np.array(self.means)
        low = float((means - _FAR * self._sds).min()) if self.low is None else self.low
        high = float((means + _FAR * self._sds).max()) if self.high is None else self.high
        return Problem.of(len(self.means), 1, low, high)

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered_arms(len(self.means))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - all rounds are alike
        """Give the same truth for every round."""
        return Rounds(np.ones((1, 1)), np.array([self.means]))

    def noise(self, n: int, rng: Generator) -> FloatArray:
        """Draw n standard normals."""
        return rng.standard_normal(n)

    def reward(self, arms: IntArray, means: FloatArray, noise: FloatArray) -> FloatArray:
        """Scatter around the means."""
        return means + self._sds[arms] * noise
