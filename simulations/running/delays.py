"""Feedback of a simulation: rewards that come late, doubled or never.

Time is counted in decisions: the decision at position p (from 0) is made at time p + 1 (or when its
batch begins), and a fold at the end of a batch sees everything up to the number of decisions made
by then. The rules are the
live engine's: a decision is learned from when it is mature, with the reward that has arrived by the
fold, and silence counts as zero; a reward that comes later, but inside the window, corrects that at
the fold after it; one that comes after the window is lost. A reward that is reported twice counts
once.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, cast

import numpy as np
from msgspec import Meta
from scipy.special import log_ndtr, ndtr, ndtri

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem

Duration = Annotated[float, Meta(gt=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
_FIRST_PLACE = 1e-12


class Feedback(Parameters, frozen=True):
    """Delay of rewards, and the engine's wait for them, in decisions."""

    median: Annotated[
        Duration | tuple[Duration, ...],
        Meta(description="time after which half of the rewards have arrived: one, or each arm's"),
    ]
    sigma: Annotated[
        float, Meta(ge=0, le=5, description="standard deviation of the logarithm of that time")
    ] = 1.0
    law: Annotated[Literal["log_normal", "weibull"], Meta(description="the law of that time")] = (
        "log_normal"
    )
    at_once: Annotated[
        bool, Meta(description="whether the emails of a batch are sent together, when it begins")
    ] = False
    slow: Annotated[
        Share, Meta(description="part of the rewards that has another median, slow_median")
    ] = 0.0
    slow_median: Annotated[
        Duration | None, Meta(description="time after which half of the slow rewards have arrived")
    ] = None
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
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if self.maturity is None and self.window is None:
            raise InvalidInput.at("/maturity", "give maturity or window")
        if bool(self.slow) != (self.slow_median is not None):
            raise InvalidInput.at("/slow_median", "give slow and slow_median together")
        if self.window is not None and self.wait > self.window:
            raise InvalidInput.at("/maturity", f"must not be longer than the window, {self.window}")

    @property
    def wait(self) -> float:
        """Time from a decision to the fold that learns from it."""
        return (self.window or 0.0) if self.maturity is None else self.maturity

    def check(self, problem: Problem) -> None:
        """Refuse a list of medians whose length is not the number of arms.

        Raises:
            InvalidInput: naming the median.
        """
        if isinstance(self.median, tuple) and len(self.median) != problem.n_arms:
            raise InvalidInput.at(
                "/median", f"has {len(self.median)} numbers, there are {problem.n_arms} arms"
            )


class DelayNoise(NamedTuple):
    """Noise of the delays of n rounds in R replications, each (R, n)."""

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
        arrived: (R, n), true where the reward has arrived by that fold.
        corrections: the rewards that arrive later.
    """

    fold: int
    first: int
    stop: int
    rewards: FloatArray
    arrived: BoolArray
    corrections: list[Correction]


class Arrivals(NamedTuple):
    """Rewards of n decisions in R replications, and when each arrives.

    Attributes:
        sent_at: (n,).
        arrives_at: (R, n).
        counted: (R, n), true where there is a reward, and it ever counts.
        reported: (R, n), the rewards as reported.
    """

    sent_at: IntArray
    arrives_at: FloatArray
    counted: BoolArray
    reported: FloatArray


class DelayQueue:
    """Queue of sent decisions, sorted by the fold at which their rewards are learned."""

    def __init__(self, feedback: Feedback, ends: IntArray, *, patient: bool) -> None:
        """Fold at the `ends` of batches; a patient learner folds once the window has closed."""
        self._feedback, self._ends, self._patient = feedback, ends, patient

    def arrivals(
        self, start: int, arms: IntArray, rewards: FloatArray, noise: DelayNoise
    ) -> Arrivals:
        """Return when the rewards (R, n) of decisions from position `start` on arrive."""
        sent_at = self._sent_at(start + np.arange(arms.shape[1]))
        arrives_at = sent_at + self._delays(arms, noise)
        counted = self._counted(arrives_at - sent_at, rewards, noise)
        return Arrivals(sent_at, arrives_at, counted, self._reported(rewards, noise))

    def split(
        self, start: int, batch: int, arms: IntArray, rewards: FloatArray, noise: DelayNoise
    ) -> Iterator[DelayedBatch]:
        """Split a segment of a batch, arms and rewards (R, n), by the fold that learns from it.

        Args:
            start: the position of the first decision.
            batch: the batch it belongs to.
            arms: (R, n).
            rewards: (R, n), as they are if reported.
            noise: of these rounds.
        """
        sent_at, arrives_at, counted, reported = self.arrivals(start, arms, rewards, noise)
        if self._patient:
            yield DelayedBatch(batch, 0, len(sent_at), reported, counted, [])
            return
        folds = np.searchsorted(self._ends, sent_at + self._feedback.wait)
        edges = np.flatnonzero(np.diff(folds)) + 1
        for first, stop in zip([0, *edges], [*edges, len(sent_at)], strict=True):
            fold, part = int(folds[first]), slice(first, stop)
            closes_at = self._ends[fold] if fold < len(self._ends) else np.inf
            arrived = counted[:, part] & (arrives_at[:, part] <= closes_at)
            late = counted[:, part] & ~arrived
            corrections = self._corrections(arrives_at[:, part], late)
            yield DelayedBatch(fold, int(first), int(stop), reported[:, part], arrived, corrections)

    def _sent_at(self, positions: IntArray) -> IntArray:
        if not self._feedback.at_once:
            return positions + 1
        begins = np.concatenate([[0], self._ends])
        return cast("IntArray", begins[np.searchsorted(begins, positions, side="right") - 1])

    def _delays(self, arms: IntArray, noise: DelayNoise) -> FloatArray:
        feedback = self._feedback
        medians = np.array(feedback.median)
        median = medians[arms] if medians.ndim else medians
        if feedback.slow_median is None:
            return median * self._factors(noise.speed)
        place = ndtr(noise.speed)
        quick = 1 - feedback.slow
        is_quick = place < quick
        within = np.where(is_quick, place / quick, (place - quick) / feedback.slow)
        speed = ndtri(np.clip(within, _FIRST_PLACE, 1 - _FIRST_PLACE))
        return np.where(is_quick, median, feedback.slow_median) * self._factors(speed)

    def _factors(self, speed: FloatArray) -> FloatArray:
        """Return delays as parts of their median, for standard normal variates."""
        sigma = self._feedback.sigma
        if self._feedback.law == "log_normal":
            return np.exp(sigma * speed)
        # The logarithm of -log of a uniform variate has standard deviation pi / sqrt(6).
        hazard = -log_ndtr(-speed) / np.log(2)
        return cast("FloatArray", hazard ** (sigma * np.sqrt(6) / np.pi))

    def _reported(self, rewards: FloatArray, noise: DelayNoise) -> FloatArray:
        if self._feedback.deduplicated:
            return rewards
        return rewards * (1 + (noise.doubled < self._feedback.doubled))

    def _counted(self, delays: FloatArray, rewards: FloatArray, noise: DelayNoise) -> BoolArray:
        """Mark the rewards that are ever counted: a reward of 0 need not arrive."""
        counted = (rewards != 0) & (noise.lost >= self._feedback.lost)
        window = self._feedback.window
        return counted if window is None else counted & (delays <= window)

    def _corrections(self, arrives_at: FloatArray, late: BoolArray) -> list[Correction]:
        if not late.any():
            return []
        folds = np.where(late, np.searchsorted(self._ends, arrives_at), -1)
        return [
            Correction(int(fold), (folds == fold).astype(np.float64))
            for fold in np.unique(folds[late])
        ]
