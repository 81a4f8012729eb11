"""Arms that take turns until a rule ends the test: what every A/B test is at play."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.numerics.ties import draw_largest, equal_shares, largest
from bandits.problem import Problem
from bandits.statistics import Moments


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
