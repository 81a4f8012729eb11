"""What observations that come in parts add up to, also where a family cannot add."""

from typing import Any

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from bandits.statistics.statistic import Statistic

Observations = tuple[IntArray, FloatArray, FloatArray, FloatArray]


class Accumulator:
    """A statistic that grows; where sums of fits are no fit, it is fitted to all parts together."""

    def __init__(
        self, family: type[Statistic], problem: Problem, lead: tuple[int, ...] = ()
    ) -> None:
        """Begin with nothing known."""
        self._family, self._problem = family, problem
        self._known: Any = family.zeros(problem, lead)
        self._parts: list[Observations] = []
        self._fitted = 0  # parts that what is known rests on

    def add(self, *part: *Observations) -> None:
        """Take in n observations: arms, rewards, contexts and weights, as `Statistic.of`."""
        if self._family.invertible:
            self._known = self._known + self._family.of(self._problem, *part)
        else:
            self._parts.append(part)

    @property
    def known(self) -> Any:
        """The statistic of all that was added."""
        if self._fitted < len(self._parts):
            self._fitted = len(self._parts)
            arms, rewards, contexts, weights = zip(*self._parts, strict=True)
            ends = (np.concatenate(arms, -1), np.concatenate(rewards, -1))
            self._known = self._family.of(
                self._problem, *ends, np.concatenate(contexts, -2), np.concatenate(weights, -1)
            )
        return self._known
