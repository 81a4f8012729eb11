"""Value remaining in an adaptive test, and the rule that stops it once that is small."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.policy import Parameters
from bandits.statistics import Moments
from simulations.learners.interfaces import BatchLearner
from simulations.learners.memory import Memory

_DRAWS = 2000  # of every arm's rate; the quantile looked at has a standard error of half a percent
_PRIOR = 1.0  # successes and failures assumed before the first real ones


class ValueRemainingRule(Parameters, frozen=True):
    """Stop when hardly anything is left to gain, and send the champion from then on.

    The value remaining is (max θ − θ_champion) / θ_champion, θ the rates' posterior draws and the
    champion the arm most often the best among them. After Scott (2010), section 5, and his account
    of it for Google Analytics (2013).
    """

    remaining: Annotated[
        float, Meta(gt=0, lt=1, description="part of the champion's rate that may be left to gain")
    ] = 0.01
    confidence: Annotated[
        float, Meta(gt=0.5, lt=1, description="chance that no more than that is left")
    ] = 0.95
    after: Annotated[int, Meta(ge=0, le=1_000_000_000, description="decisions at least")] = 0


class ValueRemainingLearner:
    """A policy that stops; a learner in front of the policy's own."""

    def __init__(
        self,
        inner: BatchLearner,
        memory: Memory,
        stop: ValueRemainingRule,
        replications: int,
        rng: Generator,
    ) -> None:
        self._inner, self._memory, self._stop, self._rng = inner, memory, stop, rng
        self._sent = 0
        self._champion = np.zeros(replications, dtype=np.int64)
        self._decided = np.full(replications, np.nan)

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Judge the value remaining, where the test goes on; then prepare for a batch."""
        undecided = np.isnan(self._decided)
        if self._sent and self._sent >= self._stop.after and undecided.any():
            enough, champion = judge_value_remaining(self._memory.statistic, self._stop, self._rng)
            over = undecided & enough
            self._decided[over], self._champion[over] = self._sent, champion[over]
        self._inner.begin(upcoming, last=last)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose as the policy does, or the champion: (R, n)."""
        self._sent += contexts.shape[1]
        arms = self._inner.choose(contexts)
        return np.where(np.isnan(self._decided)[:, None], arms, self._champion[:, None])

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count decisions as pending, and return their feedback."""
        return self._inner.send(arms, rewards, contexts)

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Return the feedback of late rewards."""
        return self._inner.correct(arms, rewards, contexts, changed)

    def learn(self, feedback: Any) -> None:
        """Learn from feedback that is due."""
        self._inner.learn(feedback)

    def shipped_shares(self) -> FloatArray | None:
        """Return the champion, or the arm that the policy would ship: (R, K)."""
        policy_shares = self._inner.shipped_shares()
        if policy_shares is None:
            return None
        champion = np.eye(policy_shares.shape[1])[self._champion]
        return np.where(np.isnan(self._decided)[:, None], policy_shares, champion)

    def sends_to_decision(self) -> FloatArray:
        """Return the decisions after which it stopped, (R,); NaN where it has not."""
        return self._decided


def judge_value_remaining(
    moments: Moments, stop: ValueRemainingRule, rng: Generator
) -> tuple[BoolArray, IntArray]:
    """Mark the replications where the value remaining is small, and return champions, (R,)."""
    successes = np.clip(moments.total, 0, moments.count)
    failures = moments.count - successes
    shape = (_DRAWS, *moments.count.shape)
    rates = rng.beta(successes + _PRIOR, failures + _PRIOR, shape)
    best = rates.argmax(axis=-1)
    n_arms = moments.count.shape[-1]
    champion = (best[..., None] == np.arange(n_arms)).sum(axis=0).argmax(axis=-1)
    champion_rates = np.take_along_axis(rates, champion[None, :, None], axis=-1)[..., 0]
    remaining = (rates.max(axis=-1) - champion_rates) / champion_rates
    return np.quantile(remaining, stop.confidence, axis=0) < stop.remaining, champion
