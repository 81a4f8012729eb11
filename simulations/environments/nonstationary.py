"""Success rates that change with time: in steps, smoothly, or every weekend again."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.bernoulli import Rate
from simulations.environments.interfaces import BinaryRewards, Rounds, numbered_arms

Position = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class DriftingRates(
    Parameters, BinaryRewards, tag_field="kind", tag="drifting", frozen=True, kw_only=False
):
    """The arms' success rates are one row of `means` after the other.

    The first row holds from the start, the next from the first position in `at`, and so on; with
    `smooth`, rates move in a straight line from one row, at its position, to the next.
    """

    means: Annotated[
        tuple[Annotated[tuple[Rate, ...], Meta(min_length=1)], ...],
        Meta(min_length=1, description="success rates of the arms, one row for each time"),
    ]
    at: Annotated[
        tuple[Position, ...],
        Meta(description="decisions made when the second row begins, the third …"),
    ]
    smooth: Annotated[bool, Meta(description="move from row to row rather than jump")] = False
    every: Annotated[
        Position | None, Meta(description="decisions after which it all begins again")
    ] = None

    def __post_init__(self) -> None:
        """Check each field, and that they fit each other.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        for i, row in enumerate(self.means):
            if len(row) != len(self.means[0]):
                raise InvalidInput.at(
                    f"/means/{i}", f"needs {len(self.means[0])} rates as the first"
                )
        if len(self.at) != len(self.means) - 1:
            raise InvalidInput.at(
                "/at", f"needs {len(self.means) - 1} positions, one for each further row of means"
            )
        if any(later <= earlier for earlier, later in zip(self.at, self.at[1:], strict=False)):
            raise InvalidInput.at("/at", "must ascend")
        if self.every is not None and self.at and self.every <= self.at[-1]:
            raise InvalidInput.at("/every", f"must be after the last row begins, {self.at[-1]}")

    @property
    def problem(self) -> Problem:
        """K arms, rewards in [0, 1]."""
        return Problem.of(len(self.means[0]), n_features=1)

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered_arms(len(self.means[0]))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - the drift is no chance
        """Give the truth of n rounds: means (n, K)."""
        times = np.arange(start, start + n)
        if self.every is not None:
            times = times % self.every
        return Rounds(np.ones((1, 1)), self._at(times))

    def _at(self, times: IntArray) -> FloatArray:
        rows = np.array(self.means)
        if not self.smooth:
            return rows[np.searchsorted(self.at, times, side="right")]
        knots = np.array([0, *self.at])
        return np.stack([np.interp(times, knots, column) for column in rows.T], axis=1)
