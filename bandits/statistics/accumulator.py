"""Accumulator of observations that come in parts, also where a family cannot add."""

from typing import Any

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.statistic import Statistic

Observations = tuple[IntArray, FloatArray, FloatArray, FloatArray]


class Accumulator:
    """Statistic that grows; where sums of fits are no fit, it is fitted to all parts together."""

    def __init__(
        self, family: type[Statistic], problem: Problem, lead: tuple[int, ...] = ()
    ) -> None:
        """Begin without observations."""
        self._family, self._problem = family, problem
        self._statistic: Any = family.zeros(problem, lead)
        self._parts: list[Observations] = []
        self._fitted = 0  # parts that the statistic was fitted to

    def add(self, *part: *Observations) -> None:
        """Add n observations: arms, rewards, contexts and weights, as of `Statistic`."""
        if self._family.invertible:
            self._statistic = self._statistic + self._family.from_observations(self._problem, *part)
        else:
            self._parts.append(part)

    @property
    def statistic(self) -> Any:
        """The statistic of all observations."""
        if self._fitted < len(self._parts):
            self._fitted = len(self._parts)
            arms, rewards, contexts, weights = zip(*self._parts, strict=True)
            ends = (np.concatenate(arms, -1), np.concatenate(rewards, -1))
            self._statistic = self._family.from_observations(
                self._problem, *ends, np.concatenate(contexts, -2), np.concatenate(weights, -1)
            )
        return self._statistic
