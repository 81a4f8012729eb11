"""The loop that every simulation goes through: send, and learn when feedback is visible."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bandits.arrays import FloatArray, IntArray
from simulations.contestant import Contestant, Player
from simulations.environments.contract import Environment
from simulations.ledger import Ledger, Record, curve_grid
from simulations.schedule import Run, Schedule
from simulations.worlds import Stretch, Worlds, keep_freed_memory, player_rng

Progress = Callable[[int], None]  # called with the number of decisions just simulated


def play(
    contestant: Contestant,
    environment: Environment,
    run: Run,
    replications: Sequence[int],
    progress: Progress,
) -> Record:
    """Let a contestant play the replications of these numbers side by side."""
    keep_freed_memory()
    problem, schedule = environment.problem, contestant.schedule(run)
    rng = player_rng(run.seed, replications[0])
    player = contestant.enter(problem, run, len(replications), rng)
    campaign = _Campaign(player, schedule)
    ledger = Ledger(problem, curve_grid(run.horizon, run.schedule.ends), len(replications))
    worlds = Worlds(environment, run.seed, replications)
    for stretch in worlds.stretches(run.horizon, by_step=schedule.sequential):
        ledger.write(stretch, *campaign.go_through(stretch))
        progress(stretch.n * len(replications))
    campaign.finish()
    return ledger.close(player.shipped())


class _Campaign:
    """A player on its schedule: which batch it is in, and what feedback is under way."""

    def __init__(self, player: Player, schedule: Schedule) -> None:
        self._player, self._delay = player, schedule.delay
        self._by_step = schedule.sequential
        self._ends: list[int] = schedule.ends.tolist()
        self._batch, self._began = 0, 0
        self._under_way: deque[tuple[int, Any]] = deque()

    def go_through(self, stretch: Stretch) -> tuple[IntArray, FloatArray]:
        """Play a stretch: the arms chosen, and their means, (R, n)."""
        arms, means = self._blank(stretch)
        at = 0
        while at < stretch.n:
            if stretch.start + at == self._began:
                last = self._batch == len(self._ends) - 1
                self._player.begin(self._ends[self._batch] - self._began, last=last)
            stop = min(stretch.n, self._ends[self._batch] - stretch.start)
            contexts = stretch.contexts[:, at:stop]
            chosen = self._player.choose(contexts)
            expected, earned = stretch.try_out(at, chosen)
            arms[:, at:stop], means[:, at:stop] = chosen, expected
            self._under_way.append((self._batch, self._player.sent(chosen, earned, contexts)))
            if stretch.start + stop == self._ends[self._batch]:
                self._end_batch()
            at = stop
        return arms, means

    def _blank(self, stretch: Stretch) -> tuple[IntArray, FloatArray]:
        replications, n = stretch.contexts.shape[:2]
        if self._by_step:  # rounds are written one after another, so they lie one after another
            shape = (n, replications)
            return np.empty(shape, np.int64).T, np.empty(shape).T
        return np.empty((replications, n), np.int64), np.empty((replications, n))

    def _end_batch(self) -> None:
        self._learn_until(self._batch - self._delay)
        self._began = self._ends[self._batch]
        self._batch += 1

    def _learn_until(self, batch: int) -> None:
        while self._under_way and self._under_way[0][0] <= batch:
            self._player.learn(self._under_way.popleft()[1])

    def finish(self) -> None:
        """Learn what is still under way: whoever ships a winner waits for it."""
        self._learn_until(len(self._ends))
