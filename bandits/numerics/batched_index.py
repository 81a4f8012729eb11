"""Index policies in batches: shares instead of one arm for every recipient until the next fold.

Thousands of emails leave between two folds, and a plain argmax would give them all one arm. So an
index policy's probabilities are the shares that result from allocating the upcoming sends one by
one to the arm of the largest index, whose width counts these sends and whose mean does not move. An
index falls with every send, so that is the same as allocating every send whose index is above a
common level, and bisection finds that level: no loop over sends.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.ties import TIE, TieSampler, draw_largest, equal_shares, largest
from bandits.policy import draw_from_propensities
from bandits.statistics import NOTHING, Moments
from bandits.statistics.online_moments import MomentsView, OnlineMoments

Index = Callable[[MomentsView, FloatArray], FloatArray]
_FIRST = 1e300  # the index of an arm that was never sent: above any other, and all of them tie


class IndexState(Protocol):
    """State that an index policy prepares: a `BatchIndexState`, or an `OnlineIndexState`."""

    @property
    def shares(self) -> FloatArray:
        """The probability of each arm, (*lead, K)."""
        ...

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch)."""
        ...

    def update(self, arms: IntArray, rewards: FloatArray) -> "IndexState":
        """Learn one observation in each state: arms, rewards (*lead,). Use the result only."""
        ...


@dataclass(frozen=True)
class BatchIndexState:
    """An index policy's prepared state.

    Attributes:
        statistic: the sums of the arms.
        index: from the statistic and sends (..., K), each above 0, to indices (..., K) that fall as
            sends grow, and are never -0.0.
        upcoming: sends expected before the next fold.
        squares: true where the index reads variances.
    """

    statistic: Moments
    index: Index
    upcoming: int
    squares: bool = False

    @cached_property
    def sends(self) -> FloatArray:
        """Decisions sent so far, pending ones included, (..., K)."""
        return self.statistic.count + self.statistic.pending

    @cached_property
    def shares(self) -> FloatArray:
        """The probability of each arm, (..., K)."""
        return batch_shares(partial(self.index, self.statistic), self.sends, self.upcoming)

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw from the shares; for one recipient after another, the largest index."""
        if self.upcoming > 1 or contexts.ndim > self.statistic.count.ndim:
            return draw_from_propensities(self.shares, contexts, rng)
        return draw_largest(_scores(partial(self.index, self.statistic), self.sends), rng)

    def update(self, arms: IntArray, rewards: FloatArray) -> IndexState:
        """Learn in place from now on, where shares are of one send and nothing is pending."""
        if self.upcoming > 1 or self.statistic.pending.any():
            return replace(self, statistic=self.statistic.update(arms, rewards))
        tie_sampler = TieSampler(self.statistic.count.shape)
        statistic = OnlineMoments(self.statistic, tie_sampler.scores, squares=self.squares)
        return OnlineIndexState(statistic, self.index, tie_sampler).update(arms, rewards)


@dataclass(frozen=True)
class OnlineIndexState:
    """State of an index policy that learns after every decision, as in a simulation."""

    statistic: OnlineMoments
    index: Index
    tie_sampler: TieSampler

    @property
    def _scores(self) -> FloatArray:
        if self.statistic.complete:
            return self.index(self.statistic, self.statistic.count)
        return _scores(partial(self.index, self.statistic), self.statistic.count)

    @property
    def shares(self) -> FloatArray:
        """The shares of the largest indices, (..., K)."""
        return equal_shares(largest(self._scores))

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest indices."""
        statistic = self.statistic
        if contexts.ndim > statistic.count.ndim:
            return draw_from_propensities(self.shares, contexts, rng)
        scores = self.index(statistic, statistic.count) if statistic.complete else self._scores
        return self.tie_sampler.draw_largest(scores, rng)

    def update(self, arms: IntArray, rewards: FloatArray) -> "OnlineIndexState":
        """Learn in place."""
        self.statistic.learn(arms, rewards)
        return self


def index_propensities(
    policy: object,  # noqa: ARG001 - a method of every index policy
    prepared: IndexState,
    contexts: FloatArray,  # noqa: ARG001 - no index here depends on the recipient
) -> FloatArray:
    """Return the shares of the upcoming sends, (*lead, K)."""
    return prepared.shares


def index_sample(
    policy: object,  # noqa: ARG001 - a method of every index policy
    prepared: IndexState,
    contexts: FloatArray,
    rng: Generator,
) -> IntArray:
    """Draw an arm for each recipient."""
    return prepared.draw(contexts, rng)


def batch_shares(
    index: Callable[[FloatArray], FloatArray], sends: FloatArray, upcoming: int
) -> FloatArray:
    """Share `upcoming` sends by allocating each to the largest index; ties split equally.

    Args:
        index: from sends so far (..., K), above 0, to indices (..., K) that fall as sends grow.
        sends: (..., K), pending ones included.
        upcoming: at least 1; 1 is the plain argmax.

    Returns:
        (..., K), rows summing to 1.
    """
    if upcoming == 1:
        return equal_shares(largest(_scores(index, sends)))
    untried = sends < NOTHING
    n_untried = np.count_nonzero(untried, axis=-1, keepdims=True)
    rest = np.maximum(upcoming - n_untried, 0)  # after one send to each untried arm
    allocated = untried + _allocate_rest(index, np.where(untried, 1.0, sends), rest)
    return np.where(n_untried >= upcoming, untried / np.maximum(n_untried, 1), allocated / upcoming)


def _scores(index: Callable[[FloatArray], FloatArray], sends: FloatArray) -> FloatArray:
    """Return indices (..., K), where every arm is to be sent once before any is sent twice."""
    if sends.size and sends.min() >= NOTHING:
        return index(sends)
    untried = sends < NOTHING
    return np.where(untried, _FIRST, index(np.where(untried, 1.0, sends)))


def _allocate_rest(
    index: Callable[[FloatArray], FloatArray], sends: FloatArray, rest: IntArray
) -> FloatArray:
    """Allocate `rest` (..., 1) more sends to the largest index; each of `sends` is above 0."""
    few, many = np.zeros_like(sends), np.broadcast_to(rest, sends.shape).astype(np.float64)
    high = index(sends).max(axis=-1, keepdims=True)
    low = index(sends + np.maximum(rest - 1, 0)).max(axis=-1, keepdims=True)
    close = TIE * np.maximum(np.abs(high), np.abs(low))
    low = low - close
    many = _count_above(lambda n: index(sends + n), low, few, many)
    while True:
        exact = many.sum(axis=-1, keepdims=True) == rest
        if np.all(exact | (high - low <= close)):
            break
        level = (low + high) / 2
        above = _count_above(lambda n: index(sends + n), level, few, many)
        enough = above.sum(axis=-1, keepdims=True) >= rest
        low, high = np.where(enough, level, low), np.where(enough, high, level)
        few, many = np.where(enough, few, above), np.where(enough, above, many)
    missing = rest - few.sum(axis=-1, keepdims=True)
    tied = np.maximum(many - few, 0)  # an index that rises a little would make it negative
    return few + missing * tied / np.maximum(tied.sum(axis=-1, keepdims=True), 1)


def _count_above(
    index: Callable[[FloatArray], FloatArray], level: FloatArray, few: FloatArray, many: FloatArray
) -> FloatArray:
    """Count the sends, between `few` and `many`, whose index is above the level: (..., K)."""
    while np.any(few < many):
        middle = np.floor((few + many) / 2)
        above = index(middle) > level
        few, many = (
            np.where(above, np.minimum(middle + 1, many), few),
            np.where(above, many, middle),
        )
    return few
