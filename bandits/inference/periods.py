"""Period sums of rewards by arm, and the test for drift: rates that move while an experiment runs.

Each period's reward is compared with what its sends would have earned at every arm's mean over the
whole time. The residuals Z (P,) of all arms together have covariance Σ_k v_k (diag n_k − n_k n_kᵀ /
N_k), n_k (P,) the arm's decisions by period, N_k their sum and v_k the variance of its reward, so
Zᵀ C⁺ Z is χ² with P − 1 degrees of freedom: the score test of a stratified table (Mantel, 1963),
with arms as strata. Arms are added up because what moves is mostly what they share, the weekday.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from scipy.special import chdtrc

from bandits.array_types import FloatArray, IntArray

FOUND = 0.001  # strict, since it is looked at often
_FEWEST = 10.0  # successes that a period needs for χ² to fit
_NULL = 1e-9  # an eigenvalue this small, relative to the largest, is no degree of freedom


def drift_p_value(count: FloatArray, total: FloatArray, square: FloatArray) -> float:
    """Return the p-value of "no arm's mean reward changed"; 1 on too little data.

    Args:
        count: (P, K) decisions whose window has closed, by period and arm.
        total: (P, K) Σ r over them.
        square: (P, K) Σ r².
    """
    n = np.maximum(count.sum(axis=0), 1.0)
    mean = total.sum(axis=0) / n
    variance = np.maximum(square.sum(axis=0) / n - mean**2, 0.0)
    merging = _merging(total.sum(axis=1), square.sum(axis=1))
    counts, totals = merging @ count, merging @ total
    covariance = np.diag(counts @ variance) - (counts * (variance / n)) @ counts.T
    values, vectors = np.linalg.eigh(covariance)
    kept = values > _NULL * values.max(initial=0.0)
    residual = vectors[:, kept].T @ (totals - counts * mean).sum(axis=1)
    freedom = np.count_nonzero(kept)
    return float(chdtrc(freedom, np.sum(residual**2 / values[kept]))) if freedom else 1.0


def _merging(total: FloatArray, square: FloatArray) -> FloatArray:
    """Return which of P periods to add up, (merged, P) of 0 and 1, so that none has too little.

    Successes are counted as (Σ r)² / Σ r², which is their number where each earns the same.
    """
    groups: list[int] = []
    group, sum_, squares = 0, 0.0, 0.0
    for t, q in zip(total.tolist(), square.tolist(), strict=True):
        groups.append(group)
        sum_, squares = sum_ + t, squares + q
        if sum_**2 >= _FEWEST * squares > 0:
            group, sum_, squares = group + 1, 0.0, 0.0
    complete = max(group, 1)  # what is left over joins the last
    return np.eye(complete)[:, np.minimum(np.array(groups, dtype=np.int64), complete - 1)]


_DAY = 86_400.0
_DAILY = 56  # days that are a period each; from then on each four weeks are
_LONG = 28


def period_of(started_at: FloatArray, since: float) -> IntArray:
    """Number the period of each of n times, in an experiment that runs `since`: (n,).

    Days in UTC, so that weekdays can be told apart, for eight weeks; then four weeks at a time. A
    period depends on nothing but the two times, so sums can be put together in any order.
    """
    days = np.floor(started_at / _DAY) - np.floor(since / _DAY)
    days = np.maximum(days, 0.0)
    long = _DAILY + np.floor((days - _DAILY) / _LONG)
    return np.where(days < _DAILY, days, long).astype(np.int64)


def period_bounds(numbers: IntArray, since: float) -> tuple[FloatArray, FloatArray]:
    """Return start and end of numbered periods (P,), in seconds since 1970, (P,) each."""
    days = np.where(numbers < _DAILY, numbers, _DAILY + (numbers - _DAILY) * _LONG)
    starts = (np.floor(since / _DAY) + days) * _DAY
    return starts, starts + period_days(numbers) * _DAY


def period_days(numbers: IntArray) -> FloatArray:
    """Return the number of days of each period, (P,)."""
    return np.where(numbers < _DAILY, 1.0, float(_LONG))


@dataclass(frozen=True, slots=True, eq=False)
class PeriodSums:
    """Sums of closed decisions by period and arm; additive.

    Attributes:
        numbers: (P,) ascending, those that have a decision.
        sums: (P, 3, K) decisions, Σ r, Σ r².
    """

    numbers: IntArray
    sums: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "PeriodSums":
        """Make the sums over no decision."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, 3, n_arms)))

    @classmethod
    def from_decisions(
        cls, numbers: IntArray, arms: IntArray, rewards: FloatArray, n_arms: int
    ) -> "PeriodSums":
        """Sum n decisions: the period of each, its arm and its reward, (n,) each."""
        periods, place = np.unique(numbers, return_inverse=True)
        cells = place.reshape(-1) * n_arms + arms
        size = len(periods) * n_arms
        sums = [np.bincount(cells, w, size) for w in (np.ones(len(arms)), rewards, rewards**2)]
        return cls(
            periods,
            np.stack(sums).astype(np.float64).reshape(3, len(periods), n_arms).swapaxes(0, 1),
        )

    def __add__(self, other: "PeriodSums") -> "PeriodSums":
        return self._joined(other, 1.0)

    def __sub__(self, other: "PeriodSums") -> "PeriodSums":
        return self._joined(other, -1.0)

    def _joined(self, other: "PeriodSums", sign: float) -> "PeriodSums":
        every = np.concatenate([self.numbers, other.numbers])
        numbers, place = np.unique(every, return_inverse=True)
        sums = np.zeros((len(numbers), *self.sums.shape[1:]))
        np.add.at(sums, place.reshape(-1), np.concatenate([self.sums, sign * other.sums]))
        kept = np.any(sums[:, 0] != 0, axis=-1)  # whole numbers: what is taken out leaves 0
        return PeriodSums(numbers[kept], sums[kept])

    def padded(self, n_arms: int) -> "PeriodSums":
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - self.sums.shape[-1]
        if not missing:
            return self
        return PeriodSums(self.numbers, np.pad(self.sums, [(0, 0), (0, 0), (0, missing)]))

    def spread(self, numbers: IntArray) -> FloatArray:
        """Return sums in the places of these periods, which must include all there are."""
        out = np.zeros((len(numbers), *self.sums.shape[1:]))
        out[np.searchsorted(numbers, self.numbers)] = self.sums
        return out

    @property
    def drift_p_value(self) -> float:
        """The p-value of "no arm's mean reward changed"; 1 on too little data."""
        if not len(self.numbers):
            return 1.0
        return drift_p_value(*self.sums.swapaxes(0, 1))

    def dump(self) -> bytes:
        """Serialise."""
        return msgspec.msgpack.encode((self.numbers.tolist(), self.sums.tolist()))

    @classmethod
    def load(cls, packed: bytes, n_arms: int) -> "PeriodSums":
        """Read back what `dump` wrote of `n_arms`."""
        numbers, sums = msgspec.msgpack.decode(packed)
        return cls(
            np.array(numbers, dtype=np.int64),
            np.array(sums, dtype=np.float64).reshape(len(numbers), 3, n_arms),
        )
