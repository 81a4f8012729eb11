"""Rotation of arms until a stopping rule ends the test: the core of every A/B test."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from scipy.special import ndtr, stdtr

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.numerics.ties import draw_largest, equal_shares, largest
from bandits.problem import Problem
from bandits.statistics import Moments

_TINY = 1e-12  # variance of a mean below which two means differ by more than chance if at all


class FixedHorizonRule(Struct, frozen=True):
    """End at the first look; with a level, keep the control, the first arm, unless it is beaten.

    Rates are compared by the z test that pools them, values by Welch's.
    """

    level: float | None = None
    rates: bool = False

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:  # noqa: ARG002 - there is one look
        """Keep the winner."""
        best = only_best(known, racing, rng)
        if self.level is None:
            return best
        p_values = _pooled_p(known, best) if self.rates else _welch_p(known, best)
        beaten = p_values[:, :1] < self.level
        control = np.arange(racing.shape[-1]) == 0
        return np.where(beaten, best, control)


class GroupSequentialRule(Struct, frozen=True):
    """End where the best arm's z against every other reaches barrier / √look."""

    barrier: float
    looks: int

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:
        """Keep the winner where it is clear, or the last look has come."""
        best = only_best(known, racing, rng)
        z = np.where(best | ~racing, np.inf, _z_against(known, best))
        clear = z.min(axis=1, keepdims=True) >= self.barrier / np.sqrt(look)
        return np.where(clear | (look >= self.looks), best, racing)


class EliminationRule(Struct, frozen=True):
    """Drop arms whose upper bound lies below another's lower bound."""

    delta: float
    span: float

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:  # noqa: ARG002 - no tie matters
        """Keep what could still be the best; Σ 1 / (look (look + 1)) = 1 shares δ among looks."""
        parts = 3.0 * racing.shape[-1] * look * (look + 1)
        log = np.log(parts) - np.log(self.delta)  # their quotient may be too large for a number
        count = np.maximum(known.count, 1)
        radius = np.sqrt(2 * known.variances * log / count) + 3 * self.span * log / count
        radius = np.where(known.count > 0, radius, np.inf)
        means = best_of(known, racing)
        lower = np.where(racing, means - radius, -np.inf).max(axis=1, keepdims=True)
        return racing & (means + radius >= lower)


def _z_against(known: Moments, best: BoolArray) -> FloatArray:
    """Return how many standard errors the best arm, marked in (R, K), is above each: (R, K)."""
    error = known.variances / np.maximum(known.count, 1)
    mean, own = ((best * values).sum(axis=1, keepdims=True) for values in (known.means, error))
    return (mean - known.means) / np.sqrt(np.maximum(own + error, _TINY))


def _pooled_p(known: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of the pooled z test of the best arm's rate: (R, K)."""
    n = (best * known.count).sum(axis=1, keepdims=True)
    wins = (best * known.total).sum(axis=1, keepdims=True)
    pooled = (wins + known.total) / np.maximum(n + known.count, 1)
    error = pooled * (1 - pooled) * (1 / np.maximum(n, 1) + 1 / np.maximum(known.count, 1))
    mean = (best * known.means).sum(axis=1, keepdims=True)
    return 2 * ndtr(-np.abs(mean - known.means) / np.sqrt(np.maximum(error, _TINY)))


def _welch_p(known: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of Welch's test of the best arm against each: (R, K)."""
    count = np.maximum(known.count, 2)
    error = np.maximum(known.variances / (count - 1), _TINY)
    own = (best * error).sum(axis=1, keepdims=True)
    n = (best * count).sum(axis=1, keepdims=True)
    freedom = (own + error) ** 2 / (own**2 / (n - 1) + error**2 / (count - 1))
    mean = (best * known.means).sum(axis=1, keepdims=True)
    return 2 * stdtr(freedom, -np.abs(mean - known.means) / np.sqrt(own + error))


class StoppingRule(Protocol):
    """When a look at the test drops arms."""

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:
        """Tell which of the arms still racing, (R, K), stay after the look of this number, from 1.

        At least one stays in each replication; where only one does, the test is over.
        """
        ...


def best_of(known: Moments, racing: BoolArray) -> FloatArray:
    """Return the means of the racing arms, and minus a very large number for others: (R, K)."""
    return np.where(racing, known.means, -np.finfo(np.float64).max / 4)


def only_best(known: Moments, racing: BoolArray, rng: Generator) -> BoolArray:
    """Keep the racing arm of the best mean, one of them where they tie: (R, K)."""
    winner = draw_largest(best_of(known, racing), rng)
    return np.arange(racing.shape[-1]) == winner[:, None]


class RotatingTest:
    """A test at play in R replications: the racing arms take turns, so their split is exact."""

    def __init__(
        self,
        problem: Problem,
        replications: int,
        rule: StoppingRule,
        rng: Generator,
        *,
        looks: Sequence[int] | None = None,
    ) -> None:
        """Begin with all arms.

        Args:
            problem: what is chosen among.
            replications: R.
            rule: when a look drops arms.
            rng: breaks ties.
            looks: decisions until each look that is planned, the last ends it; None for a test that
                is looked at as long as the campaign lasts.
        """
        self._problem, self._rule, self._rng, self._looks = problem, rule, rng, looks
        self._known = Moments.zeros(problem, (replications,))
        self._racing = np.ones((replications, problem.n_arms), dtype=np.bool_)
        self._look, self._sent, self._turn = 0, 0, 0
        self._decided = np.full(replications, np.nan)
        self._order()

    def _order(self) -> None:
        """List the racing arms of each replication before the others."""
        self._turns = np.argsort(~self._racing, axis=1, kind="stable")
        self._left = np.count_nonzero(self._racing, axis=1, keepdims=True)
        self._turn = 0

    def begin(self, upcoming: int, *, last: bool) -> None:  # noqa: ARG002 - the rule knows when
        """Look at the test, where it is not over."""
        if self._sent and not (self._left == 1).all():
            self._look_at()

    def _look_at(self) -> None:
        self._look += 1
        running = self._left > 1
        kept = self._rule.keep(self._known, self._racing, self._look, self._rng)
        self._racing = np.where(running, kept & self._racing, self._racing)
        self._order()
        over = running[:, 0] & (self._left[:, 0] == 1)
        self._decided[over] = self._sent

    def choose(self, contexts: FloatArray) -> IntArray:
        """Take turns: contexts (R, n, d) to arms (R, n)."""
        replications, n = contexts.shape[:2]
        if (self._left == 1).all():
            arms = np.broadcast_to(self._turns[:, :1], (replications, n))
        else:
            turns = (self._turn + np.arange(n)) % self._left
            arms = np.take_along_axis(self._turns, turns, axis=1)
        self._turn += n
        self._sent += n
        return arms

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Moments | None:
        """Sum the test's feedback; what comes after it is not looked at."""
        if (self._left == 1).all():
            return None
        return Moments.of(self._problem, arms, rewards, contexts, np.ones(arms.shape))

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Moments:
        """Sum what late rewards change."""
        late = Moments.of(self._problem, arms, rewards, contexts, changed)
        return late - Moments.of(self._problem, arms, np.zeros(arms.shape), contexts, changed)

    def learn(self, feedback: Moments | None) -> None:
        """Add feedback."""
        if feedback is not None:
            self._known = self._known + feedback

    def shipped(self) -> FloatArray:
        """Ship the winner; a test whose plan was larger than the campaign ships nothing, NaN.

        A test without a plan that is not over ships the best mean of the arms still racing.
        """
        if self._sent in (self._looks or ()):
            self._look_at()
        best = equal_shares(largest(best_of(self._known, self._racing)))
        unread = self._left > 1 if self._looks is not None else np.zeros_like(self._left, np.bool_)
        return np.where(unread, np.nan, best)

    def decided(self) -> FloatArray:
        """Tell after how many decisions the test was over, (R,); NaN where it is not."""
        return self._decided
