"""When rewards arrive: late, unevenly, twice or never, and when the engine learns from them.

Time is counted in decisions: the decision at position p (from 0) is made at time p + 1, and a fold
at the end of a batch sees everything up to the number of decisions made by then. The rules are the
live engine's: a decision is learned from when it is mature, with what has arrived by the fold, and
silence counts as zero; a reward that comes later, but inside the window, corrects that at the fold
after it; one that comes after the window is lost. A reward that is reported twice counts once.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem

Duration = Annotated[float, Meta(gt=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Feedback(Parameters, frozen=True):
    """How long rewards take, and how long the engine waits for them, in decisions."""

    median: Annotated[
        Duration | tuple[Duration, ...],
        Meta(description="time after which half of the rewards have arrived: one, or each arm's"),
    ]
    sigma: Annotated[
        float, Meta(ge=0, le=5, description="standard deviation of the logarithm of that time")
    ] = 1.0
    maturity: Annotated[
        Annotated[float, Meta(ge=0, le=1e12)] | None,
        Meta(description="time until silence counts as zero; the window if absent"),
    ] = None
    window: Annotated[
        Duration | None, Meta(description="time during which a reward counts; no end if absent")
    ] = None
    lost: Annotated[Share, Meta(description="part of the rewards that is never reported")] = 0.0
    doubled: Annotated[Share, Meta(description="part of the rewards that is reported twice")] = 0.0
    deduplicated: Annotated[
        bool, Meta(description="whether the second report is recognised, as the engine does")
    ] = True

    def __post_init__(self) -> None:
        """Check each field, and that the engine waits for something.

        Raises:
            InvalidInput: naming what does not fit.
        """
        Parameters.__post_init__(self)
        if self.maturity is None and self.window is None:
            raise InvalidInput.at("/maturity", "give maturity or window")
        if self.window is not None and self.waits > self.window:
            raise InvalidInput.at("/maturity", f"must not be longer than the window, {self.window}")

    @property
    def waits(self) -> float:
        """How long after a decision it is learned from."""
        return (self.window or 0.0) if self.maturity is None else self.maturity

    def check(self, problem: Problem) -> None:
        """Refuse as many medians as there are no arms.

        Raises:
            InvalidInput: naming the median.
        """
        if isinstance(self.median, tuple) and len(self.median) != problem.n_arms:
            raise InvalidInput.at(
                "/median", f"has {len(self.median)} numbers, there are {problem.n_arms} arms"
            )


class DelayNoise(NamedTuple):
    """What chance decides for the rewards of n rounds in R replications, each (R, n)."""

    speed: FloatArray
    lost: FloatArray
    doubled: FloatArray

    def part(self, start: int, stop: int) -> "DelayNoise":
        """Take the rounds from `start` to `stop`."""
        return DelayNoise(*(values[:, start:stop] for values in self))


class Correction(NamedTuple):
    """Rewards that arrive after their decision was learned from as silent.

    Attributes:
        fold: the batch at whose end they are learned.
        changed: (R, n), 1 where a reward arrives, else 0.
    """

    fold: int
    changed: FloatArray


class DelayedBatch(NamedTuple):
    """Successive decisions that are learned from at the same fold.

    Attributes:
        fold: the batch at whose end that is; the number of batches if after the last.
        first: the first of them, within the segment.
        stop: the one after the last.
        rewards: (R, n), as reported in the end.
        arrived: (R, n), whether the reward has arrived by that fold.
        corrections: those that come later.
    """

    fold: int
    first: int
    stop: int
    rewards: FloatArray
    arrived: BoolArray
    corrections: list[Correction]


class DelayQueue:
    """Tell when what a player sends is answered."""

    def __init__(self, feedback: Feedback, ends: IntArray, *, patient: bool) -> None:
        """Fold at the `ends` of batches; a patient player folds once the window has closed."""
        self._feedback, self._ends, self._patient = feedback, ends, patient

    def letters(
        self, start: int, batch: int, arms: IntArray, rewards: FloatArray, luck: DelayNoise
    ) -> Iterator[DelayedBatch]:
        """Sort a segment of a batch, arms and rewards (R, n), by the fold it is learned at.

        Args:
            start: the position of the first decision.
            batch: the batch it belongs to.
            arms: (R, n).
            rewards: (R, n), what is reported if it is.
            luck: of these rounds.
        """
        made = start + 1 + np.arange(arms.shape[1])
        arrives = made + self._delays(arms, luck)
        reported = self._reported(rewards, luck)
        comes = self._comes(arrives - made, rewards, luck)
        if self._patient:
            yield DelayedBatch(batch, 0, len(made), reported, comes, [])
            return
        folds = np.searchsorted(self._ends, made + self._feedback.waits)
        edges = np.flatnonzero(np.diff(folds)) + 1
        for first, stop in zip([0, *edges], [*edges, len(made)], strict=True):
            fold, part = int(folds[first]), slice(first, stop)
            closes = self._ends[fold] if fold < len(self._ends) else np.inf
            arrived = comes[:, part] & (arrives[:, part] <= closes)
            late = comes[:, part] & ~arrived
            corrections = self._corrections(arrives[:, part], late)
            yield DelayedBatch(fold, int(first), int(stop), reported[:, part], arrived, corrections)

    def _delays(self, arms: IntArray, luck: DelayNoise) -> FloatArray:
        medians = np.array(self._feedback.median)
        return (medians[arms] if medians.ndim else medians) * np.exp(
            self._feedback.sigma * luck.speed
        )

    def _reported(self, rewards: FloatArray, luck: DelayNoise) -> FloatArray:
        if self._feedback.deduplicated:
            return rewards
        return rewards * (1 + (luck.doubled < self._feedback.doubled))

    def _comes(self, delays: FloatArray, rewards: FloatArray, luck: DelayNoise) -> BoolArray:
        """Tell which rewards are ever counted: those that are none need not arrive."""
        comes = (rewards != 0) & (luck.lost >= self._feedback.lost)
        return comes if self._feedback.window is None else comes & (delays <= self._feedback.window)

    def _corrections(self, arrives: FloatArray, late: BoolArray) -> list[Correction]:
        if not late.any():
            return []
        folds = np.where(late, np.searchsorted(self._ends, arrives), -1)
        return [
            Correction(int(fold), (folds == fold).astype(np.float64))
            for fold in np.unique(folds[late])
        ]
