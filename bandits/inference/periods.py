"""Period sums: rewards by period and arm, for the test of drift; bounded in size."""

from dataclasses import dataclass

import msgspec
import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.inference.drift import drift_p_value

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
