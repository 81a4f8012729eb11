"""Guarded learner: a policy whose versions a guardrail pauses, by the engine's own evidence."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.inference.guardrail_evidence import FALSE_ALARMS, limit_bets, wealth
from bandits.numerics.ties import equal_shares, largest
from bandits.policy import Parameters
from simulations.learners.interfaces import BatchLearner
from simulations.learners.memory import Memory

_ATTEMPTS = 20  # of drawing an email's arm again; then it gets the control


class GuardrailRule(Parameters, frozen=True):
    """Pause an arm once its emails have the unwanted event of `run.unwanted` too often.

    The first arm is the control, which is never paused. Events are seen after their batch.
    """

    limit: Annotated[
        float, Meta(gt=0, lt=1, description="part of an arm's emails that may have the event")
    ]
    batches_a_day: Annotated[
        int, Meta(ge=1, le=1_000_000, description="batches between two days to begin betting on")
    ] = 1


class GuardedLearner:
    """A policy that does without paused arms; a learner in front of the policy's own."""

    def __init__(
        self,
        inner: BatchLearner,
        memory: Memory,
        rule: GuardrailRule,
        unwanted: FloatArray,
        rng: Generator,
    ) -> None:
        """Guard `inner`; `unwanted` (R, K) are chances of the event, of which `rng` draws."""
        self._inner, self._memory, self._rule, self._rng = inner, memory, rule, rng
        self._unwanted, self._batch = unwanted, 0
        self._days: list[FloatArray] = []  # (2, R, K) emails, and those with the event
        self._paused = np.zeros(unwanted.shape, dtype=np.bool_)

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Pause what passed the limit, then prepare for a batch."""
        if self._days:
            emails, events = np.stack(self._days, axis=1)
            bets = limit_bets(emails, events, self._rule.limit)
            alarm = (self._unwanted.shape[-1] - 1) / FALSE_ALARMS
            passed = wealth(bets, np.arange(len(emails))) >= alarm
            passed[:, 0] = False
            self._paused = self._paused | passed
        if self._batch % self._rule.batches_a_day == 0:
            self._days.append(np.zeros((2, *self._paused.shape)))
        self._batch += 1
        self._inner.begin(upcoming, last=last)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose as the policy does; what a paused arm would get is drawn again: (R, n)."""
        arms = self._inner.choose(contexts)
        for _ in range(_ATTEMPTS):
            refused = np.take_along_axis(self._paused, arms, axis=1)
            if not refused.any():
                return arms
            arms = np.where(refused, self._inner.choose(contexts), arms)
        return np.where(np.take_along_axis(self._paused, arms, axis=1), 0, arms)

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Draw who has the event, count decisions as pending, and return their feedback."""
        shape = self._paused.shape
        cells = (arms + row_starts(*shape)[:, None]).reshape(-1)
        emails = np.bincount(cells, minlength=self._paused.size).reshape(shape)
        self._days[-1][0] += emails
        self._days[-1][1] += self._rng.binomial(emails, self._unwanted)
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
        """Return the arm of the best mean that is not paused, (R, K)."""
        if self._inner.shipped_shares() is None:
            return None
        means = self._memory.statistic.means
        return equal_shares(largest(np.where(self._paused, means.min() - 1.0, means)))

    def sends_to_decision(self) -> FloatArray:
        """Return what the policy's own learner says."""
        return self._inner.sends_to_decision()
