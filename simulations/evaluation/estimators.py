"""Estimators of a policy's value from a log of another policy, as scores of its rounds."""

from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from simulations.evaluation.score_intervals import standard_error

EstimatorName = Literal[
    "ipw", "snipw", "dm", "dr", "sndr", "switch_dr", "dros", "mips", "slot_wise"
]

_SLOPE_FACTOR = 6**0.5 - 1  # of Su, Srinath and Krishnamurthy, theorem 3
_NORMAL_95 = 1.96
_CANDIDATES = 12


class WeightedRounds(Struct, frozen=True, eq=False):
    """n rounds seen from a target policy.

    Attributes:
        weights: (n,) the target's probability of the arm that was sent, over the log's.
        rewards: (n,).
        baseline: (n,) the reward that the model expects under the target.
        predicted: (n,) the reward that it expects of the arm that was sent.
    """

    weights: FloatArray
    rewards: FloatArray
    baseline: FloatArray
    predicted: FloatArray

    @classmethod
    def plain(cls, weights: FloatArray, rewards: FloatArray) -> "WeightedRounds":
        """Make them of weights and rewards (n,) alone, without a model."""
        zeros = np.zeros(len(rewards))
        return cls(weights, rewards, zeros, zeros)

    @property
    def residuals(self) -> FloatArray:
        """Rewards beyond those predicted, (n,)."""
        return self.rewards - self.predicted


class RoundScores(Struct, frozen=True, eq=False):
    """RoundScores whose mean, or ratio of sums, is an estimate.

    Attributes:
        numerators: (n,).
        denominators: (n,); None where the estimate is the numerators' mean.
        offset: (n,) whose mean is added to the ratio, or None.
        parameter: that was chosen for it, such as Switch-DR's τ; None where it has none.
    """

    numerators: FloatArray
    denominators: FloatArray | None = None
    offset: FloatArray | None = None
    parameter: float | None = None

    @property
    def value(self) -> float:
        """The estimate."""
        if self.denominators is None:
            return float(self.numerators.mean())
        total = float(self.denominators.sum())
        ratio = float(self.numerators.sum()) / total if total > 0 else float("nan")
        return ratio + (0.0 if self.offset is None else float(self.offset.mean()))

    @property
    def columns(self) -> FloatArray:
        """Columns (n, 9) of which sums give the estimate and its standard error."""
        n = len(self.numerators)
        top = self.numerators
        bottom = np.ones(n) if self.denominators is None else self.denominators
        offset = np.zeros(n) if self.offset is None else self.offset
        squares = (top * top, bottom * bottom, offset * offset)
        return np.stack(
            [top, bottom, offset, *squares, top * bottom, top * offset, bottom * offset], axis=1
        )

    @staticmethod
    def from_totals(totals: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return estimates and standard errors (m,) of m sums of `columns`, (m, 9).

        Args:
            totals: the sums.
            rows: (m,) over so many rounds.
        """
        top, bottom, offset, tops, bottoms, offsets, top_bottom, top_offset, bottom_offset = (
            totals / rows[:, None]
        ).T
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = top / bottom
            variance = (tops - 2 * ratio * top_bottom + ratio**2 * bottoms) / bottom**2
            variance += offsets - offset**2
            variance += 2 * (top_offset - ratio * bottom_offset) / bottom
            return ratio + offset, np.sqrt(np.maximum(variance, 0.0) / rows)

    @property
    def standard_error(self) -> float:
        """Standard error of the estimate as if rounds were independent, a ratio's by its slope."""
        if self.denominators is None:
            return standard_error(self.numerators)
        total = float(self.denominators.sum())
        if total <= 0:
            return float("inf")
        ratio = float(self.numerators.sum()) / total
        centred = (self.numerators - ratio * self.denominators) / (total / len(self.numerators))
        if self.offset is not None:
            centred = centred + self.offset
        return standard_error(centred)


def ipw(rounds: WeightedRounds) -> RoundScores:
    """Inverse propensity weighting: the mean of weighted rewards.

    Source: Horvitz and Thompson (1952); Strehl, Langford, Li and Kakade (2010).
    """
    return RoundScores(rounds.weights * rounds.rewards)


def snipw(rounds: WeightedRounds) -> RoundScores:
    """Self-normalised inverse propensity weighting: weighted rewards over the sum of weights.

    Source: Swaminathan and Joachims (2015), The self-normalized estimator.
    """
    return RoundScores(rounds.weights * rounds.rewards, rounds.weights)


def dm(rounds: WeightedRounds) -> RoundScores:
    """Direct method: the reward that the model expects. Its error is the model's own.

    Source: Beygelzimer and Langford (2009), The offset tree.
    """
    return RoundScores(rounds.baseline)


def dr(rounds: WeightedRounds) -> RoundScores:
    """Doubly robust: the model's expectation, and weighted residuals.

    With predictions from earlier rounds alone it is the augmented inverse propensity weighted
    sequence, unbiased on a log whose policy learned.

    Source: Dudík, Langford and Li (2011); for adaptive logs Hadad, Hirshberg, Zhan, Wager and
    Athey (2021), section 2.
    """
    return RoundScores(rounds.baseline + rounds.weights * rounds.residuals)


def sndr(rounds: WeightedRounds) -> RoundScores:
    """Self-normalised doubly robust: residuals over the sum of weights.

    Source: Thomas and Brunskill (2016), section on weighted doubly robust, in one step.
    """
    return RoundScores(rounds.weights * rounds.residuals, rounds.weights, rounds.baseline)


def switch_dr(rounds: WeightedRounds, tau: float | None = None) -> RoundScores:
    """Switch to the model where a weight exceeds τ; by SLOPE's choice unless it is given.

    Source: Wang, Agarwal and Dudík (2017), Optimal and adaptive off-policy evaluation.
    """
    if tau is not None:
        kept = rounds.weights * (rounds.weights <= tau)
        return RoundScores(rounds.baseline + kept * rounds.residuals, parameter=tau)
    return slope([switch_dr(rounds, float(t)) for t in _scale(rounds.weights)])


def dros(rounds: WeightedRounds, lam: float | None = None) -> RoundScores:
    """Doubly robust with optimistic shrinkage: weights w become λw / (w² + λ).

    Source: Su, Dimakopoulou, Krishnamurthy and Dudík (2020), Doubly robust off-policy evaluation
    with shrinkage.
    """
    if lam is None:
        return slope([dros(rounds, float(size) ** 2) for size in _scale(rounds.weights)])
    shrunk = rounds.weights if np.isinf(lam) else _shrunk(rounds.weights, lam)
    return RoundScores(rounds.baseline + shrunk * rounds.residuals, parameter=lam)


def _shrunk(weights: FloatArray, lam: float) -> FloatArray:
    return lam * weights / (weights**2 + lam) if lam > 0 else np.zeros_like(weights)


def _scale(weights: FloatArray) -> FloatArray:
    """Return thresholds from below the mean weight to beyond the largest, ascending."""
    largest = max(float(weights.max()), 1.0)
    return np.append(np.geomspace(0.5, largest, _CANDIDATES - 1), np.inf)


def slope(candidates: list[RoundScores]) -> RoundScores:
    """Choose among estimates whose bias falls and whose deviation rises: SLOPE.

    From the least biased one on it goes to smaller deviations as long as each interval meets those
    of all before it.

    Args:
        candidates: of one estimator at several parameters; the larger deviation is the less biased.

    Source: Su, Srinath and Krishnamurthy (2020), Adaptive estimator selection for off-policy
    evaluation.
    """
    ordered = sorted(candidates, key=lambda scores: -scores.standard_error)
    values = [scores.value for scores in ordered]
    widths = [_NORMAL_95 * scores.standard_error for scores in ordered]
    for j in range(1, len(ordered)):
        for i in range(j):
            if abs(values[i] - values[j]) > widths[j] + _SLOPE_FACTOR * widths[i]:
                return ordered[j - 1]
    return ordered[-1]


ESTIMATORS = {
    "ipw": ipw,
    "snipw": snipw,
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": switch_dr,
    "dros": dros,
}
