"""A/B tests as a simulation's contestants: split, stop, ship the winner.

An A/B test has a memory (the test is over, this arm won), so it is no policy but a procedure. A
scenario names it in the same way.
"""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.arrays import FloatArray, IntArray
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.statistics import Moments
from bandits.ties import draw_largest
from simulations.adaptive import best_mean
from simulations.contestant import Player
from simulations.schedule import Run, Schedule


class ABTest(Parameters, frozen=True):
    """Split a share of the campaign equally, wait for the results, send the rest the best arm.

    The arms take turns, so the split is exact. The rest of the campaign is held back until the
    test's feedback is in, as email tools do it; so it depends neither on batches nor on delay. The
    best mean wins, significant or not: the test's cost is paid, and shipping a worse-looking arm
    would earn less. Ties are split equally.
    """

    name: ClassVar[str] = "ab_test"
    label: ClassVar[str] = "A/B test, then ship the winner"

    share: Annotated[
        float, Meta(gt=0, le=1, description="part of the campaign's recipients that is tested on")
    ] = 0.1

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse nothing: any share can be tested."""

    def schedule(self, run: Run) -> Schedule:
        """Test, then send the rest."""
        return Schedule(np.unique([self._tested(run.horizon), run.horizon]))

    def enter(self, problem: Problem, run: Run, replications: int, rng: Generator) -> Player:
        """Begin with the test."""
        return Tester(problem, replications, self._tested(run.horizon), rng)

    def _tested(self, horizon: int) -> int:
        return max(1, round(self.share * horizon))


class Tester:
    """An A/B test at play."""

    def __init__(self, problem: Problem, replications: int, tested: int, rng: Generator) -> None:
        self._problem, self._tested, self._rng = problem, tested, rng
        self._position = 0
        self._known = Moments.zeros(problem, (replications,))
        self._winner: IntArray | None = None

    def begin(self, upcoming: int, *, last: bool) -> None:  # noqa: ARG002 - it has batches of its own
        """Pick the winner once the test has been read."""
        if self._position >= self._tested:
            self._winner = draw_largest(self._known.means, self._rng)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Take turns during the test, then send the winner: (R, n)."""
        replications, n = contexts.shape[:2]
        if self._winner is None:
            turns = np.arange(self._position, self._position + n) % self._problem.n_arms
            arms = np.broadcast_to(turns, (replications, n))
        else:
            arms = np.broadcast_to(self._winner[:, None], (replications, n))
        self._position += n
        return arms

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Moments | None:
        """Sum the test's feedback; what comes after it is not looked at."""
        if self._winner is not None:
            return None
        return Moments.of(self._problem, arms, rewards, contexts, np.ones(arms.shape))

    def learn(self, feedback: Moments | None) -> None:
        """Add the test's feedback."""
        if feedback is not None:
            self._known = self._known + feedback

    def shipped(self) -> FloatArray | None:
        """Ship the winner: (R, K)."""
        if self._winner is None:
            return best_mean(self._known)
        return np.eye(self._problem.n_arms)[self._winner]


PROCEDURES = {procedure.name: procedure for procedure in (ABTest,)}
