"""When an adaptive test has learned enough: the value remaining in it is small."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.policy import Parameters
from bandits.statistics import Moments
from simulations.learners.forgetting import Memory
from simulations.learners.interfaces import Learner

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
    """A policy that stops; a player in front of the policy's own."""

    def __init__(
        self,
        inner: Learner,
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
        """Judge what is known, where it goes on; then prepare for a batch."""
        going = np.isnan(self._decided)
        if self._sent and self._sent >= self._stop.after and going.any():
            enough, champion = enough_known(self._memory.known, self._stop, self._rng)
            over = going & enough
            self._decided[over], self._champion[over] = self._sent, champion[over]
        self._inner.begin(upcoming, last=last)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose as the policy does, or the champion: (R, n)."""
        self._sent += contexts.shape[1]
        arms = self._inner.choose(contexts)
        return np.where(np.isnan(self._decided)[:, None], arms, self._champion[:, None])

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count as pending."""
        return self._inner.sent(arms, rewards, contexts)

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Pack what late rewards change."""
        return self._inner.corrected(arms, rewards, contexts, changed)

    def learn(self, feedback: Any) -> None:
        """Learn what has become visible."""
        self._inner.learn(feedback)

    def shipped(self) -> FloatArray | None:
        """Ship the champion, or what the policy would: (R, K)."""
        other = self._inner.shipped()
        if other is None:
            return None
        champion = np.eye(other.shape[1])[self._champion]
        return np.where(np.isnan(self._decided)[:, None], other, champion)

    def decided(self) -> FloatArray:
        """Tell after how many decisions it stopped, (R,)."""
        return self._decided


def enough_known(
    known: Moments, stop: ValueRemainingRule, rng: Generator
) -> tuple[BoolArray, IntArray]:
    """Tell where enough is known of rates, and each replication's champion, both (R,)."""
    successes = np.clip(known.total, 0, known.count)
    failures = known.count - successes
    shape = (_DRAWS, *known.count.shape)
    rates = rng.beta(successes + _PRIOR, failures + _PRIOR, shape)
    best = rates.argmax(axis=-1)
    n_arms = known.count.shape[-1]
    champion = (best[..., None] == np.arange(n_arms)).sum(axis=0).argmax(axis=-1)
    own = np.take_along_axis(rates, champion[None, :, None], axis=-1)[..., 0]
    remaining = (rates.max(axis=-1) - own) / own
    return np.quantile(remaining, stop.confidence, axis=0) < stop.remaining, champion
