"""Rotation of arms until a stopping rule ends the test: the play of every A/B test."""

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

_TINY = 1e-12  # variance of a mean below which two means that differ do so by more than chance


class FixedHorizonRule(Struct, frozen=True):
    """End at the first look; with a level, keep the control, the first arm, unless it is beaten.

    Rates are compared by the z test that pools them, values by Welch's.
    """

    level: float | None = None
    rates: bool = False

    def keep_arms(
        self,
        moments: Moments,
        racing: BoolArray,
        look: int,  # noqa: ARG002 - there is one look
        rng: Generator,
    ) -> BoolArray:
        """Keep the winner."""
        best = mark_winner(moments, racing, rng)
        if self.level is None:
            return best
        p_values = _pooled_p(moments, best) if self.rates else _welch_p(moments, best)
        beaten = p_values[:, :1] < self.level
        control = np.arange(racing.shape[-1]) == 0
        return np.where(beaten, best, control)


class GroupSequentialRule(Struct, frozen=True):
    """End where the best arm's z against every other reaches barrier / √look."""

    barrier: float
    looks: int

    def keep_arms(
        self, moments: Moments, racing: BoolArray, look: int, rng: Generator
    ) -> BoolArray:
        """Keep the winner where it is clear, or at the last look."""
        best = mark_winner(moments, racing, rng)
        z = np.where(best | ~racing, np.inf, _z_against(moments, best))
        clear = z.min(axis=1, keepdims=True) >= self.barrier / np.sqrt(look)
        return np.where(clear | (look >= self.looks), best, racing)


class EliminationRule(Struct, frozen=True):
    """Drop arms whose upper bound lies below another's lower bound."""

    delta: float
    span: float

    def keep_arms(
        self,
        moments: Moments,
        racing: BoolArray,
        look: int,
        rng: Generator,  # noqa: ARG002 - no tie matters
    ) -> BoolArray:
        """Keep arms that could be the best; Σ 1 / (look (look + 1)) = 1 shares δ among looks."""
        parts = 3.0 * racing.shape[-1] * look * (look + 1)
        log = np.log(parts) - np.log(self.delta)  # their quotient may be too large for a number
        count = np.maximum(moments.count, 1)
        radius = np.sqrt(2 * moments.variances * log / count) + 3 * self.span * log / count
        radius = np.where(moments.count > 0, radius, np.inf)
        means = racing_means(moments, racing)
        lower = np.where(racing, means - radius, -np.inf).max(axis=1, keepdims=True)
        return racing & (means + radius >= lower)


def _z_against(moments: Moments, best: BoolArray) -> FloatArray:
    """Return the z of the best arm, marked in (R, K), against each: (R, K)."""
    error = moments.variances / np.maximum(moments.count, 1)
    mean, own = ((best * values).sum(axis=1, keepdims=True) for values in (moments.means, error))
    return (mean - moments.means) / np.sqrt(np.maximum(own + error, _TINY))


def _pooled_p(moments: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of the pooled z test of the best arm's rate: (R, K)."""
    n = (best * moments.count).sum(axis=1, keepdims=True)
    wins = (best * moments.total).sum(axis=1, keepdims=True)
    pooled = (wins + moments.total) / np.maximum(n + moments.count, 1)
    error = pooled * (1 - pooled) * (1 / np.maximum(n, 1) + 1 / np.maximum(moments.count, 1))
    mean = (best * moments.means).sum(axis=1, keepdims=True)
    return 2 * ndtr(-np.abs(mean - moments.means) / np.sqrt(np.maximum(error, _TINY)))


def _welch_p(moments: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of Welch's test of the best arm against each: (R, K)."""
    count = np.maximum(moments.count, 2)
    error = np.maximum(moments.variances / (count - 1), _TINY)
    own = (best * error).sum(axis=1, keepdims=True)
    n = (best * count).sum(axis=1, keepdims=True)
    freedom = (own + error) ** 2 / (own**2 / (n - 1) + error**2 / (count - 1))
    mean = (best * moments.means).sum(axis=1, keepdims=True)
    return 2 * stdtr(freedom, -np.abs(mean - moments.means) / np.sqrt(own + error))


class StoppingRule(Protocol):
    """Rule by which a look at the test drops arms."""

    def keep_arms(
        self, moments: Moments, racing: BoolArray, look: int, rng: Generator
    ) -> BoolArray:
        """Mark the racing arms, (R, K), that stay after the look of this number, from 1.

        At least one stays in each replication; where only one does, the test is over.
        """
        ...


def racing_means(moments: Moments, racing: BoolArray) -> FloatArray:
    """Return the means of the racing arms, and minus a very large number for others: (R, K)."""
    return np.where(racing, moments.means, -np.finfo(np.float64).max / 4)


def mark_winner(moments: Moments, racing: BoolArray, rng: Generator) -> BoolArray:
    """Mark the racing arm of the best mean, one of them where they tie: (R, K)."""
    winner = draw_largest(racing_means(moments, racing), rng)
    return np.arange(racing.shape[-1]) == winner[:, None]


class RotatingTest:
    """A test in R replications, whose racing arms take turns, so that their split is exact."""

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
            problem: the arms.
            replications: R.
            rule: the rule by which a look drops arms.
            rng: breaks ties.
            looks: decisions until each planned look, of which the last ends the test; None for a
                test with looks as long as the campaign lasts.
        """
        self._problem, self._rule, self._rng, self._looks = problem, rule, rng, looks
        self._moments = Moments.zeros(problem, (replications,))
        self._racing = np.ones((replications, problem.n_arms), dtype=np.bool_)
        self._look, self._sent, self._turn = 0, 0, 0
        self._decided = np.full(replications, np.nan)
        self._order()

    def _order(self) -> None:
        """List the racing arms of each replication before the others."""
        self._turns = np.argsort(~self._racing, axis=1, kind="stable")
        self._left = np.count_nonzero(self._racing, axis=1, keepdims=True)
        self._turn = 0

    def begin(self, upcoming: int, *, last: bool) -> None:  # noqa: ARG002 - the rule decides
        """Take a look at the test, where it is not over."""
        if self._sent and not (self._left == 1).all():
            self._take_look()

    def _take_look(self) -> None:
        self._look += 1
        running = self._left > 1
        stays = self._rule.keep_arms(self._moments, self._racing, self._look, self._rng)
        self._racing = np.where(running, stays & self._racing, self._racing)
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

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Moments | None:
        """Sum the test's feedback; later sends have none."""
        if (self._left == 1).all():
            return None
        return Moments.from_observations(
            self._problem, arms, rewards, contexts, np.ones(arms.shape)
        )

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Moments:
        """Sum the change by late rewards."""
        late = Moments.from_observations(self._problem, arms, rewards, contexts, changed)
        return late - Moments.from_observations(
            self._problem, arms, np.zeros(arms.shape), contexts, changed
        )

    def learn(self, feedback: Moments | None) -> None:
        """Add feedback."""
        if feedback is not None:
            self._moments = self._moments + feedback

    def shipped_shares(self) -> FloatArray:
        """Return the winner, (R, K); NaN for a test whose plan was larger than the campaign.

        A test without a plan that is not over ships the best mean of the arms still racing.
        """
        if self._sent in (self._looks or ()):
            self._take_look()
        best = equal_shares(largest(racing_means(self._moments, self._racing)))
        unread = self._left > 1 if self._looks is not None else np.zeros_like(self._left, np.bool_)
        return np.where(unread, np.nan, best)

    def sends_to_decision(self) -> FloatArray:
        """Return the decisions after which the test was over, (R,); NaN where it is not."""
        return self._decided
