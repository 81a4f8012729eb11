"""A learner on its schedule: the batch it is in, and the feedback that is pending."""

from typing import Any

import numpy as np

from bandits.array_types import FloatArray, IntArray
from simulations.learners.interfaces import BatchLearner
from simulations.running.delays import DelayQueue, Feedback
from simulations.running.replications import Chunk
from simulations.running.schedule import Schedule


class ScheduledLearner:
    """A batch learner that plays chunk by chunk, and learns when feedback is due."""

    def __init__(
        self, learner: BatchLearner, schedule: Schedule, feedback: Feedback | None
    ) -> None:
        """Begin before the first batch; without `feedback`, the schedule's delay holds."""
        self._learner, self._delay = learner, schedule.delay
        self._by_step = schedule.sequential
        self._ends: list[int] = schedule.ends.tolist()
        self._batch, self._batch_start = 0, 0
        self._pending: dict[int, list[Any]] = {}  # feedback by the batch at whose end it is due
        self._delays: DelayQueue | None = None
        if feedback is not None:
            self._delays = DelayQueue(feedback, schedule.ends, patient=schedule.patient)

    def play(self, chunk: Chunk) -> tuple[IntArray, FloatArray]:
        """Choose arms for the rounds of a chunk: these, and their means, (R, n)."""
        arms, means = self._empty_arrays(chunk)
        at = 0
        while at < chunk.n:
            if chunk.start + at == self._batch_start:
                last = self._batch == len(self._ends) - 1
                self._learner.begin(self._ends[self._batch] - self._batch_start, last=last)
            stop = min(chunk.n, self._ends[self._batch] - chunk.start)
            chosen_arms = self._learner.choose(chunk.contexts[:, at:stop])
            means[:, at:stop], rewards = chunk.send(at, chosen_arms)
            arms[:, at:stop] = chosen_arms
            self._send(chunk, at, chosen_arms, rewards)
            if chunk.start + stop == self._ends[self._batch]:
                self._end_batch()
            at = stop
        return arms, means

    def _send(self, chunk: Chunk, at: int, arms: IntArray, rewards: FloatArray) -> None:
        stop = at + arms.shape[1]
        contexts = chunk.contexts[:, at:stop]
        if self._delays is None or chunk.delay_noise is None:
            due = self._batch + self._delay
            self._await_feedback(due, self._learner.send(arms, rewards, contexts))
            return
        noise = chunk.delay_noise.part(at, stop)
        for part in self._delays.split(chunk.start + at, self._batch, arms, rewards, noise):
            columns = slice(part.first, part.stop)
            part_arms, part_contexts = arms[:, columns], contexts[:, columns]
            in_time = part.rewards * part.arrived
            self._await_feedback(part.fold, self._learner.send(part_arms, in_time, part_contexts))
            for correction in part.corrections:
                feedback = self._learner.correct(
                    part_arms, part.rewards, part_contexts, correction.changed
                )
                self._await_feedback(correction.fold, feedback)

    def _await_feedback(self, fold: int, feedback: Any) -> None:
        self._pending.setdefault(fold, []).append(feedback)

    def _empty_arrays(self, chunk: Chunk) -> tuple[IntArray, FloatArray]:
        replications, n = chunk.contexts.shape[:2]
        if self._by_step:  # rounds are written one after another, so they lie one after another
            shape = (n, replications)
            return np.empty(shape, np.int64).T, np.empty(shape).T
        return np.empty((replications, n), np.int64), np.empty((replications, n))

    def _end_batch(self) -> None:
        self._fold(self._batch)
        self._batch_start = self._ends[self._batch]
        self._batch += 1

    def _fold(self, fold: int) -> None:
        for feedback in self._pending.pop(fold, ()):
            self._learner.learn(feedback)

    def finish(self) -> None:
        """Learn from the feedback that is still pending: a winner is shipped once it is in."""
        for fold in sorted(self._pending):
            self._fold(fold)

    def shipped_shares(self) -> FloatArray | None:
        """Return the arm that the batch learner would send, (R, K)."""
        return self._learner.shipped_shares()

    def sends_to_decision(self) -> FloatArray:
        """Return the decisions after which the batch learner settled on an arm, (R,)."""
        return self._learner.sends_to_decision()
