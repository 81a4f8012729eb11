"""Index policies in waves: shares instead of one arm for everybody until the next fold.

Thousands of emails leave between two folds, and a plain argmax would give them all one arm. So an
index policy's probabilities are the shares that result from giving the upcoming sends one by one to
the arm of the largest index, whose width counts what is given and whose mean does not move. An
index falls with every send, so that is the same as giving every send whose index is above a common
level, and the level is found by bisection: no loop over sends.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.ties import TIE, TieSampler, draw_largest, equal_shares, largest
from bandits.policy import draw_each
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

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch)."""
        ...

    def learned(self, arms: IntArray, rewards: FloatArray) -> "IndexState":
        """Learn one observation in each state: arms, rewards (*lead,). Use the result only."""
        ...


@dataclass(frozen=True)
class BatchIndexState:
    """An index policy's prepared state.

    Attributes:
        known: the statistic.
        index: from the statistic and sends (..., K), each above 0, to indices (..., K) that fall as
            sends grow, and are never -0.0.
        upcoming: sends expected before the next fold.
        squares: whether the index reads variances.
    """

    known: Moments
    index: Index
    upcoming: int
    squares: bool = False

    @cached_property
    def sends(self) -> FloatArray:
        """Decisions sent so far, pending ones included, (..., K)."""
        return self.known.count + self.known.pending

    @cached_property
    def shares(self) -> FloatArray:
        """The probability of each arm, (..., K)."""
        return wave_shares(partial(self.index, self.known), self.sends, self.upcoming)

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw from the shares; where it is one recipient after another, the largest index."""
        if self.upcoming > 1 or contexts.ndim > self.known.count.ndim:
            return draw_each(self.shares, contexts, rng)
        return draw_largest(_scores(partial(self.index, self.known), self.sends), rng)

    def learned(self, arms: IntArray, rewards: FloatArray) -> IndexState:
        """Learn in place from now on, where shares are of one send and nothing is pending."""
        if self.upcoming > 1 or self.known.pending.any():
            return replace(self, known=self.known.learned(arms, rewards))
        lots = TieSampler(self.known.count.shape)
        known = OnlineMoments(self.known, lots.scores, squares=self.squares)
        return OnlineIndexState(known, self.index, lots).learned(arms, rewards)


@dataclass(frozen=True)
class OnlineIndexState:
    """An index policy that learns after every decision, as a simulation's."""

    known: OnlineMoments
    index: Index
    lots: TieSampler

    @property
    def _scores(self) -> FloatArray:
        if self.known.complete:
            return self.index(self.known, self.known.count)
        return _scores(partial(self.index, self.known), self.known.count)

    @property
    def shares(self) -> FloatArray:
        """Share among the largest indices, (..., K)."""
        return equal_shares(largest(self._scores))

    def drawn(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest indices."""
        known = self.known
        if contexts.ndim > known.count.ndim:
            return draw_each(self.shares, contexts, rng)
        scores = self.index(known, known.count) if known.complete else self._scores
        return self.lots.draw_largest(scores, rng)

    def learned(self, arms: IntArray, rewards: FloatArray) -> "OnlineIndexState":
        """Learn in place."""
        self.known.learn(arms, rewards)
        return self


def wave_propensities(
    policy: object,  # noqa: ARG001 - a method of every index policy
    prepared: IndexState,
    contexts: FloatArray,  # noqa: ARG001 - no index here depends on the recipient
) -> FloatArray:
    """Return the shares of the upcoming sends, (*lead, K)."""
    return prepared.shares


def wave_sample(
    policy: object,  # noqa: ARG001 - a method of every index policy
    prepared: IndexState,
    contexts: FloatArray,
    rng: Generator,
) -> IntArray:
    """Draw an arm for each recipient."""
    return prepared.drawn(contexts, rng)


def wave_shares(
    index: Callable[[FloatArray], FloatArray], sends: FloatArray, upcoming: int
) -> FloatArray:
    """Share `upcoming` sends by giving them one by one to the largest index; ties split equally.

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
    given = untried + _given(index, np.where(untried, 1.0, sends), rest)
    return np.where(n_untried >= upcoming, untried / np.maximum(n_untried, 1), given / upcoming)


def _scores(index: Callable[[FloatArray], FloatArray], sends: FloatArray) -> FloatArray:
    """Return indices (..., K), where every arm is to be sent once before any is sent twice."""
    if sends.size and sends.min() >= NOTHING:
        return index(sends)
    untried = sends < NOTHING
    return np.where(untried, _FIRST, index(np.where(untried, 1.0, sends)))


def _given(
    index: Callable[[FloatArray], FloatArray], sends: FloatArray, rest: IntArray
) -> FloatArray:
    """Give `rest` (..., 1) more sends to the largest index; each of `sends` is above 0."""
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
