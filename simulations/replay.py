"""Replay of a log: the reward that a policy would have earned, had it chosen.

Rejection replay, after Li, Chu, Langford and Wang (2011), algorithm 2: a policy sees the log's rows
in their order and chooses for each; where it chooses the arm that was sent, it earns the real
reward and learns from it, and all other rows are left out. If every arm was sent with the same
probability to every recipient, the matched rows are distributed as if the policy had been live.
Where the probabilities p differed but are logged, a match is kept with probability p_min / p, p_min
being the smallest of the log; then every arm's rows are kept at the same rate again. (That is their
remark on logs that are not uniform; it is exact if no arm's probability was below p_min.)
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
from msgspec import Struct
from numpy.random import SFC64, Generator, SeedSequence
from scipy.stats import chisquare

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import AnyPolicy, sample_arms
from bandits.problem import Problem
from bandits.statistics.accumulator import Accumulator
from simulations.csv_log import ReplayLog

_CURVE_POINTS = 100
_GROWTH = 1.02  # growth of the rows after which a policy that is fitted to all is fitted anew
_UNEQUAL = 1e-3  # p-value below which arms were not sent equally often


class ReplayPoint(Struct, frozen=True):
    """The mean reward of the first matched rows."""

    matched: int
    reward_per_step: float


class ReplayResult(Struct, frozen=True):
    """Reward of a replayed policy.

    Attributes:
        label: its name.
        reward_per_step: mean reward over matched rows.
        se: its standard error.
        matched: rows in which the policy chose the arm that was sent, and that were kept.
        curve: mean reward so far.
    """

    label: str
    reward_per_step: float
    se: float
    matched: int
    curve: list[ReplayPoint]


def problem_of(log: ReplayLog) -> Problem:
    """Return the log's arms, features and bounds; rewards in [0, 1] are taken for successes."""
    low, high = min(float(log.rewards.min()), 0.0), max(float(log.rewards.max()), 1.0)
    return Problem.of(len(log.arms), log.contexts.shape[1], low, high)


def sent_unequally(log: ReplayLog) -> bool:
    """Test the arms' counts: true where they differ by more than chance, at equal probability."""
    counts = np.bincount(log.arm, minlength=len(log.arms))
    return bool(chisquare(counts).pvalue < _UNEQUAL)


def replay(
    log: ReplayLog,
    policy: AnyPolicy,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> ReplayResult:
    """Replay a log with a policy that learns after every matched row.

    A policy that is fitted anew to all rows learns after each of the first fifty, and from then on
    when they have grown by a fiftieth, as a live one learns at folds.

    Args:
        log: the log.
        policy: the policy.
        seed: the same seed gives the same numbers.
        progress: called now and then with the number of rows replayed since.

    Raises:
        InvalidInput: the policy does not take such rewards, or no row matched.
    """
    problem = problem_of(log)
    low, high = policy.support
    if problem.low < low or problem.high > high:
        raise InvalidInput.at(
            "",
            f"{policy.name} takes rewards in [{low:g}, {high:g}], the log's lie in "
            f"[{log.rewards.min():g}, {log.rewards.max():g}]",
        )
    rng = Generator(SFC64(SeedSequence(seed)))
    matched = _match_rows(log, _ReplayLearner(policy, problem, rng), rng, progress)
    if not matched:
        raise InvalidInput.at("", f"{policy.name} never chose what was sent")
    rewards = log.rewards[matched]
    n = len(rewards)
    se = float(rewards.std(ddof=1) / sqrt(n)) if n > 1 else float("inf")
    return ReplayResult(policy.name, float(rewards.mean()), se, n, _curve(rewards))


def _match_rows(
    log: ReplayLog, learner: "_ReplayLearner", rng: Generator, progress: Callable[[int], None]
) -> list[int]:
    """Return the rows that were matched and kept, in order."""
    kept = _draw_kept(log, rng)
    matched = []
    ahead = len(log.arms)  # of so many rows, one is expected to match
    at = 0
    while at < log.n:
        rows = slice(at, min(at + ahead, log.n))
        hits = (learner.choose(log.contexts[rows]) == log.arm[rows]) & kept[rows]
        first = int(hits.argmax())
        if hits[first]:
            # The arms of the rows after it are chosen again, by the policy that learned from it.
            row = at + first
            learner.learn(log.arm[row], log.rewards[row], log.contexts[row])
            matched.append(row)
            step = first + 1
        else:
            step = len(hits)
        at += step
        progress(step)
    return matched


def _draw_kept(log: ReplayLog, rng: Generator) -> BoolArray:
    """Draw the rows that are kept if they match: (n,) bool, with probability p_min / p."""
    if log.propensities is None:
        return np.ones(log.n, dtype=np.bool_)
    return rng.random(log.n) * log.propensities < log.propensities.min()


class _ReplayLearner:
    """A policy that learns one observation at a time."""

    def __init__(self, policy: AnyPolicy, problem: Problem, rng: Generator) -> None:
        self._policy, self._problem, self._rng = policy, problem, rng
        self._accumulator = Accumulator(policy.statistic, problem)
        self._additive = policy.statistic.invertible
        self._matched = self._prepared_at = 0
        self._prepared = policy.prepare(self._accumulator.statistic, problem, 1, rng)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose an arm for each of contexts (n, d): (n,)."""
        return sample_arms(self._policy, self._prepared, contexts, self._rng)

    def learn(self, arm: IntArray, reward: FloatArray, context: FloatArray) -> None:
        """Learn from one row: arm and reward 0-d, context (d,)."""
        if self._policy.advance is not None:
            self._prepared = self._policy.advance(
                self._prepared, np.asarray(arm), np.asarray(reward), context
            )
            return
        one = np.ones(1)
        self._accumulator.add(arm * np.ones(1, np.int64), reward * one, context[None], one)
        self._matched += 1
        if self._additive or self._matched > self._prepared_at * _GROWTH:
            self._prepared = self._policy.prepare(
                self._accumulator.statistic, self._problem, 1, self._rng
            )
            self._prepared_at = self._matched


def _curve(rewards: FloatArray) -> list[ReplayPoint]:
    n = len(rewards)
    grid = np.unique(np.arange(1, _CURVE_POINTS + 1) * n // _CURVE_POINTS)
    grid = grid[grid > 0]
    means = np.cumsum(rewards)[grid - 1] / grid
    return [ReplayPoint(int(m), float(mean)) for m, mean in zip(grid, means, strict=True)]
