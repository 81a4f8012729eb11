"""A policy whose statistic is timed, as a learner: silence counts by how long it has lasted."""

from dataclasses import fields
from typing import Any

import numpy as np
from msgspec.structs import replace

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.ties import equal_shares, largest
from bandits.problem import Problem
from bandits.statistics import AnswerDelays, SendTimes
from simulations.learners.arm_draws import ArmDraws
from simulations.running.delays import Arrivals, DelayQueue
from simulations.running.replications import Chunk
from simulations.running.schedule import Run


class TimedMemory:
    """Memory of R replications: every decision from its sending on, and each answer as it arrives.

    Replications lie behind each other as if they were arms of one.
    """

    def __init__(self, problem: Problem, replications: int, window: float) -> None:
        """Start empty; rewards count for `window` decisions."""
        self.replications = replications
        self._shape = (replications, problem.n_arms)
        self._problem = replace(Problem.of(replications * problem.n_arms), window=window)
        self._sums = AnswerDelays.zeros(self._problem)
        self._places = np.zeros(0, dtype=np.int64)  # of answers that have not arrived yet
        self._times = np.zeros((2, 0))  # when each was sent, and when it arrives

    def send(self, arms: IntArray, arrivals: Arrivals) -> None:
        """Add decisions (R, n)."""
        places = arms + self._shape[1] * np.arange(len(arms))[:, None]
        sent_at = np.broadcast_to(arrivals.sent_at.astype(np.float64), arms.shape)
        at = float(arrivals.sent_at[-1])
        self._sums = self._sums + self._sum(places.ravel(), sent_at.ravel(), sent_at.ravel(), at, 0)
        answers = arrivals.counted
        times = np.stack([sent_at[answers], arrivals.arrives_at[answers]])
        self._places = np.concatenate([self._places, places[answers]])
        self._times = np.concatenate([self._times, times], axis=1)

    def statistic(self, at: float) -> AnswerDelays:
        """Return the statistic as of a time, with leading axis R."""
        due = self._times[1] <= at
        places, (sent_at, arrives_at) = self._places[due], self._times[:, due]
        answered = self._sum(places, sent_at, arrives_at, at, 1)
        self._sums = self._sums + answered - self._sum(places, sent_at, arrives_at, at, 0)
        self._sums = self._sums.aged_to(self._problem, at)
        self._places, self._times = self._places[~due], self._times[:, ~due]
        arrays = [getattr(self._sums, f.name) for f in fields(AnswerDelays)]
        return AnswerDelays(arrays[0], *(a.reshape(*self._shape, *a.shape[1:]) for a in arrays[1:]))

    def _sum(
        self, places: IntArray, sent_at: FloatArray, answered_at: FloatArray, at: float, reward: int
    ) -> AnswerDelays:
        rewards = np.full(len(places), float(reward))
        times = SendTimes(sent_at, answered_at, at)
        return AnswerDelays.from_sent(self._problem, places, rewards, np.ones(len(places)), times)


class TimedPolicyLearner:
    """A policy that prepares anew for every batch, from all that is known when it begins."""

    def __init__(self, draws: ArmDraws, problem: Problem, replications: int, run: Run) -> None:
        """Begin before the first batch of a run whose feedback is late."""
        if run.feedback is None or run.feedback.window is None:
            raise ValueError("a timed policy needs feedback with a window")
        self._draws, self._problem = draws, problem
        self._ends = [0, *run.schedule.ends.tolist()]
        self._all_in = self._ends[-1] + run.feedback.window
        self._delays = DelayQueue(run.feedback, run.schedule.ends, patient=False)
        self._memory = TimedMemory(problem, replications, run.feedback.window)
        self._batch = 0
        self._prepared: Any = None

    def play(self, chunk: Chunk) -> tuple[IntArray, FloatArray]:
        """Choose arms for the rounds of a chunk: these, and their means, (R, n)."""
        replications, n = chunk.contexts.shape[:2]
        arms, means = np.empty((replications, n), np.int64), np.empty((replications, n))
        at = 0
        while at < n:
            now = chunk.start + at
            if now == self._ends[self._batch]:
                self._batch += 1
                size = self._ends[self._batch] - now
                statistic = self._memory.statistic(now)
                policy, rng = self._draws.policy, self._draws.rng
                self._prepared = policy.prepare(statistic, self._problem, size, rng)
            part = slice(at, min(n, self._ends[self._batch] - chunk.start))
            arms[:, part] = self._draws.arms(
                self._prepared, chunk.contexts[:, part], self._problem.n_arms
            )
            means[:, part], rewards = chunk.send(at, arms[:, part])
            if chunk.delay_noise is None:
                raise ValueError("a timed policy needs rounds with delays")
            noise = chunk.delay_noise.part(part.start, part.stop)
            self._memory.send(
                arms[:, part], self._delays.arrivals(now, arms[:, part], rewards, noise)
            )
            at = part.stop
        return arms, means

    def finish(self) -> None:
        """Do nothing: what is shipped is read once all answers are in."""

    def shipped_shares(self) -> FloatArray | None:
        """Return the arm of the best rate once all answers are in, (R, K), ties shared."""
        return equal_shares(largest(self._memory.statistic(self._all_in).means))

    def sends_to_decision(self) -> FloatArray:
        """Return NaN: it never settles."""
        return np.full(self._memory.replications, np.nan)
