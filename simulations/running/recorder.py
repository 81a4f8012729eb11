"""Recorder of a learner's regret and sends."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from simulations.running.replications import Chunk

POINTS = 100  # on a curve, besides the ends of batches
_TRUTH = 0.1  # the last part of the campaign, whose means decide which arm is the best to ship
_SAME = 1e-12  # means closer than this count as equal


class RunRecord(Struct, frozen=True, eq=False):
    """Sums of one learner in R replications; all but `grid` have R rows.

    Sums are of means, not of realised rewards: the noise that is added afterwards is no part
    of the quality of a choice.

    Attributes:
        grid: (G,) int, decisions made at each point of the curves; the last is the horizon.
        reward: (R, G), expected reward of the chosen arms, summed.
        best: (R, G), that of the best arm of each round.
        control: (R, G), that of the first arm.
        sends: (R, K), number of sends of each arm.
        wrong: (R,), 1 where it would ship an arm that is not the best, 0 where the best; NaN where
            it ships no single arm, or none yet.
        lost: (R,), expected loss of each later decision by the arm it ships; NaN likewise.
        decided: (R,), decisions after which it had settled on an arm; NaN where it had not.
        rate_after: (R,), expected reward of a decision after the campaign: of the arm that is
            shipped, or where there is none, of the campaign's last tenth.
    """

    grid: IntArray
    reward: FloatArray
    best: FloatArray
    control: FloatArray
    sends: FloatArray
    wrong: FloatArray
    lost: FloatArray
    decided: FloatArray
    rate_after: FloatArray

    @property
    def regret(self) -> FloatArray:
        """Expected reward missed, summed: (R, G)."""
        return self.best - self.reward

    @property
    def worst_dip(self) -> FloatArray:
        """Largest distance behind sending only the control: (R,), at least 0."""
        return np.maximum((self.control - self.reward).max(axis=1), 0.0)


def concatenate_records(records: Sequence[RunRecord]) -> RunRecord:
    """Put the replications of several records of one learner under each other."""

    def rows(name: str) -> FloatArray:
        return np.concatenate([getattr(record, name) for record in records])

    names = [name for name in RunRecord.__struct_fields__ if name != "grid"]
    return RunRecord(records[0].grid, *(rows(name) for name in names))


def curve_grid(horizon: int, ends: IntArray) -> IntArray:
    """Return the points of curves: evenly spaced, and the ends of batches if they are few."""
    even = np.arange(1, POINTS + 1) * horizon // POINTS
    points = np.union1d(even, ends) if len(ends) <= POINTS else even
    return points[points > 0]


class RegretRecorder:
    """Sums of sends and expected rewards, chunk by chunk."""

    def __init__(self, problem: Problem, grid: IntArray, replications: int) -> None:
        self._grid = grid
        self._sums = np.zeros((3, replications))
        self._curves = np.empty((3, replications, len(grid)))
        self._sends = np.zeros((replications, problem.n_arms))
        self._truth = np.zeros((replications, problem.n_arms))
        self._truth_from = int((1 - _TRUTH) * grid[-1])

    def record(self, chunk: Chunk, arms: IntArray, expected: FloatArray) -> None:
        """Record a chunk in which arms (R, n) with these means (R, n) were sent."""
        means, stop = chunk.means, chunk.start + chunk.n
        first, after = np.searchsorted(self._grid, [chunk.start, stop], side="right")
        ends = np.unique(np.append(self._grid[first:after], stop)) - chunk.start
        for i, values in enumerate((expected, means.max(axis=2), means[:, :, 0])):
            sums = self._sums[i][:, None] + np.cumsum(_sums_to_ends(values, ends), axis=1)
            self._curves[i, :, first:after] = sums[:, : after - first]
            self._sums[i] = sums[:, -1]
        late = chunk.n - max(0, self._truth_from - chunk.start)
        if late > 0:
            constant = means.shape[1] == 1
            self._truth += means[:, 0] * late if constant else means[:, -late:].sum(axis=1)
        cells = arms + means.shape[-1] * np.arange(len(arms))[:, None]
        counts = np.bincount(cells.ravel(order="K"), minlength=self._sends.size)
        self._sends += counts.reshape(self._sends.shape)

    def finish(self, shipped: FloatArray | None, decided: FloatArray) -> RunRecord:
        """Compare the arm shipped, (R, K), with the true means at the end of the campaign."""
        reward, best, control = self._curves
        if shipped is None:
            wrong = lost = rate_after = np.full(len(reward), np.nan)
        else:
            truth = self._truth / (self._grid[-1] - self._truth_from)
            top = truth.max(axis=1, keepdims=True)
            wrong = 1 - (shipped * (truth >= top - _SAME * np.abs(top))).sum(axis=1)
            rate_after = (shipped * truth).sum(axis=1)
            lost = top[:, 0] - rate_after
        rate_after = np.where(np.isnan(rate_after), self._late_rate(reward), rate_after)
        return RunRecord(
            self._grid, reward, best, control, self._sends, wrong, lost, decided, rate_after
        )

    def _late_rate(self, reward: FloatArray) -> FloatArray:
        horizon = self._grid[-1]
        earlier = np.flatnonzero(self._grid <= self._truth_from)
        if not len(earlier):
            return reward[:, -1] / horizon
        at = earlier[-1]
        return (reward[:, -1] - reward[:, at]) / (horizon - self._grid[at])


def _sums_to_ends(values: FloatArray, ends: IntArray) -> FloatArray:
    """Sum values (R, n), or (R, 1) where all are alike, from each end to the next: (R, ends)."""
    starts = np.append(0, ends[:-1])
    if values.shape[1] == 1:
        return values * (ends - starts)
    return np.add.reduceat(values, starts, axis=1)
