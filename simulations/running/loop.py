"""The loop that every simulation goes through: send, and learn when feedback is visible."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
from threadpoolctl import ThreadpoolController

from bandits.array_types import FloatArray, IntArray
from simulations.environments.interfaces import Environment
from simulations.learners.interfaces import Learner, LearnerFactory, SequentialLearner
from simulations.running.delays import DelayQueue, Feedback
from simulations.running.recorder import RegretRecorder, RunRecord, curve_grid
from simulations.running.replications import Chunk, Replications, player_rng, warm_allocator
from simulations.running.schedule import Run, Schedule

Progress = Callable[[int], None]  # called with the number of decisions just simulated


class RunTask(NamedTuple):
    """A contestant and the replications that it plays side by side."""

    environment: Environment
    contestant: LearnerFactory
    run: Run
    replications: range


def play_task(task: RunTask, progress: Progress) -> RunRecord:
    """Play, on one processor: a simulation's matrices are so small that sharing them costs more."""
    with _thread_pools().limit(limits=1, user_api="blas"):
        return play(task.contestant, task.environment, task.run, task.replications, progress)


@cache
def _thread_pools() -> ThreadpoolController:
    """Find the libraries that have threads, once: it takes as long as hundreds of decisions."""
    return ThreadpoolController()


def play(
    contestant: LearnerFactory,
    environment: Environment,
    run: Run,
    replications: Sequence[int],
    progress: Progress,
) -> RunRecord:
    """Let a contestant play the replications of these numbers side by side."""
    warm_allocator()
    problem = environment.problem
    schedule = contestant.schedule(run, problem)
    rng = player_rng(run.seed, replications[0])
    player = contestant.enter(problem, run, len(replications), rng)
    walker = (
        cast("SequentialLearner", player)
        if hasattr(player, "go_through")
        else SequentialRun(player, schedule, run.feedback)
    )
    ledger = RegretRecorder(problem, curve_grid(run.horizon, run.schedule.ends), len(replications))
    worlds = Replications(environment, run.seed, replications, by_mail=run.feedback is not None)
    for stretch in worlds.stretches(run.horizon, by_step=schedule.sequential):
        ledger.write(stretch, *walker.go_through(stretch))
        progress(stretch.n * len(replications))
    walker.finish()
    return ledger.close(walker.shipped(), walker.decided())


class SequentialRun:
    """A player on its schedule: which batch it is in, and what feedback is under way."""

    def __init__(self, player: Learner, schedule: Schedule, feedback: Feedback | None) -> None:
        self._player, self._delay = player, schedule.delay
        self._by_step = schedule.sequential
        self._ends: list[int] = schedule.ends.tolist()
        self._batch, self._began = 0, 0
        self._under_way: dict[int, list[Any]] = {}  # by the batch at whose end it is learned
        self._post: DelayQueue | None = None
        if feedback is not None:
            self._post = DelayQueue(feedback, schedule.ends, patient=schedule.patient)

    def go_through(self, stretch: Chunk) -> tuple[IntArray, FloatArray]:
        """Play a stretch: the arms chosen, and their means, (R, n)."""
        arms, means = self._blank(stretch)
        at = 0
        while at < stretch.n:
            if stretch.start + at == self._began:
                last = self._batch == len(self._ends) - 1
                self._player.begin(self._ends[self._batch] - self._began, last=last)
            stop = min(stretch.n, self._ends[self._batch] - stretch.start)
            chosen = self._player.choose(stretch.contexts[:, at:stop])
            expected, earned = stretch.try_out(at, chosen)
            arms[:, at:stop], means[:, at:stop] = chosen, expected
            self._send(stretch, at, chosen, earned)
            if stretch.start + stop == self._ends[self._batch]:
                self._end_batch()
            at = stop
        return arms, means

    def _send(self, stretch: Chunk, at: int, arms: IntArray, rewards: FloatArray) -> None:
        stop = at + arms.shape[1]
        contexts = stretch.contexts[:, at:stop]
        if self._post is None or stretch.mail is None:
            self._expect(self._batch + self._delay, self._player.sent(arms, rewards, contexts))
            return
        luck = stretch.mail.part(at, stop)
        for letters in self._post.letters(stretch.start + at, self._batch, arms, rewards, luck):
            part = slice(letters.first, letters.stop)
            what = arms[:, part], letters.rewards, contexts[:, part]
            known = letters.rewards * letters.arrived
            self._expect(letters.fold, self._player.sent(what[0], known, what[2]))
            for correction in letters.corrections:
                packed = self._player.corrected(*what, correction.changed)
                self._expect(correction.fold, packed)

    def _expect(self, fold: int, packed: Any) -> None:
        self._under_way.setdefault(fold, []).append(packed)

    def _blank(self, stretch: Chunk) -> tuple[IntArray, FloatArray]:
        replications, n = stretch.contexts.shape[:2]
        if self._by_step:  # rounds are written one after another, so they lie one after another
            shape = (n, replications)
            return np.empty(shape, np.int64).T, np.empty(shape).T
        return np.empty((replications, n), np.int64), np.empty((replications, n))

    def _end_batch(self) -> None:
        self._fold(self._batch)
        self._began = self._ends[self._batch]
        self._batch += 1

    def _fold(self, fold: int) -> None:
        for packed in self._under_way.pop(fold, ()):
            self._player.learn(packed)

    def finish(self) -> None:
        """Learn what is still under way: whoever ships a winner waits for it."""
        for fold in sorted(self._under_way):
            self._fold(fold)

    def shipped(self) -> FloatArray | None:
        """Ship what the player would."""
        return self._player.shipped()

    def decided(self) -> FloatArray:
        """Have settled when the player did."""
        return self._player.decided()
