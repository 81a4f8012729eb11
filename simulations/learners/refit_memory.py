"""What is remembered for a family that cannot subtract: the log itself."""

from typing import Any

import numpy as np

from bandits.array_types import FloatArray, IntArray
from simulations.learners.forgetting import (
    DecisionBatch,
    DecisionForgetting,
    ExponentialDecay,
    FullMemory,
    Memory,
    MemorySums,
    SlidingWindow,
    WindowPart,
)


class RefitMemory:
    """The log itself, for a family that cannot subtract: it is summed anew before every batch."""

    def __init__(self, sums: MemorySums, forgetting: DecisionForgetting | None) -> None:
        self._sums, self._forgetting = sums, forgetting
        self._now = 0
        self._log: list[WindowPart] = []
        self._learned: list[bool] = []
        self._known: Any = sums.nothing()
        self._stale = False

    @property
    def known(self) -> Any:
        """Sum the log, each decision with the weight that it has now."""
        if self._stale:
            self._known, self._stale = self._summed(), False
        return self._known

    def _summed(self) -> Any:
        log = [p for p, learned in zip(self._log, self._learned, strict=True) if learned]
        positions = np.concatenate([np.arange(p.start, p.stop) for p in log])
        weights = self._weights(self._now - 1 - positions)
        parts = zip(*(p.decisions for p in log), strict=True)
        arms, rewards, contexts, ones = (np.concatenate(part, axis=1) for part in parts)
        inside = weights > 0
        decisions = DecisionBatch(arms, rewards, contexts, ones * weights)
        return self._sums.learned(decisions.part(inside))

    def _weights(self, ages: IntArray) -> FloatArray:
        if self._forgetting is None:
            return np.ones(ages.shape)
        if self._forgetting.window is not None:
            return (ages < self._forgetting.window).astype(np.float64)
        return 2.0 ** (-ages / (self._forgetting.half_life or np.inf))

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> int:
        """Append n decisions (R, n) to the log; they are not known yet."""
        decisions = DecisionBatch(arms, rewards, np.array(contexts), np.ones(arms.shape))
        self._log.append(WindowPart(self._now, decisions, corrects=False))
        self._learned.append(False)
        self._now += arms.shape[1]
        self._stale = any(self._learned)
        return len(self._log) - 1

    def corrected(
        self,
        arms: IntArray,  # noqa: ARG002 - the log has them
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG002 - as arms
        changed: FloatArray,
    ) -> tuple[int, FloatArray, FloatArray]:
        """Keep what changes, and of what."""
        return len(self._log) - 1, rewards, changed

    def learn(self, feedback: int | tuple[int, FloatArray, FloatArray]) -> None:
        """Mark decisions as known, or change their rewards."""
        if isinstance(feedback, tuple):
            position, rewards, changed = feedback
            placed = self._log[position]
            mended = np.where(changed > 0, rewards, placed.decisions.rewards)
            decisions = placed.decisions._replace(rewards=mended)
            self._log[position] = placed._replace(decisions=decisions)
        else:
            self._learned[feedback] = True
        self._stale = True


def memory_for(sums: MemorySums, forgetting: DecisionForgetting | None, *, late: bool) -> Memory:
    """Start a memory that forgets so; `late` if batches begin before earlier feedback is in."""
    if not sums.family.invertible:
        return RefitMemory(sums, forgetting)
    if forgetting is None:
        return FullMemory(sums, late=late)
    if forgetting.window is not None:
        return SlidingWindow(sums, forgetting.window)
    return ExponentialDecay(sums, forgetting.half_life or np.inf)
