"""Recent days: AIPW sums by day of sending, of the last days whose decisions have all closed.

An average over a whole campaign says nothing of today where rates moved. So the last seven days
that are closed, their last email's reward window over, are kept apart, with those after them that
are closed in part. Which days these are depends on the time of the fold alone, so sums that are put
together in another order, or rebuilt from the log, agree.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray, distinct_places
from bandits.inference.aipw_sums import AipwSums

DAY = 86_400.0
RECENT_DAYS = 7


def last_closed_day(at: float, window: float) -> int:
    """Number the last day, in UTC since 1970, whose last decision's window is over `at`."""
    return int(np.floor((at - window) / DAY)) - 1


@dataclass(frozen=True, slots=True, eq=False)
class RecentDays:
    """AIPW sums of closed decisions by day of sending; additive.

    Attributes:
        days: (D,) ascending, those that have a decision; in UTC since 1970.
        sums: by day, which is the leading axis.
    """

    days: IntArray
    sums: AipwSums

    @classmethod
    def zeros(cls, n_arms: int) -> "RecentDays":
        """Make the sums over no decision."""
        return cls(np.zeros(0, dtype=np.int64), AipwSums.zeros(n_arms, (0,)))

    def __add__(self, other: "RecentDays") -> "RecentDays":
        return self._joined(other, 1.0)

    def __sub__(self, other: "RecentDays") -> "RecentDays":
        return self._joined(other, -1.0)

    def _joined(self, other: "RecentDays", sign: float) -> "RecentDays":
        if not len(other.days):
            return self
        if not len(self.days) and sign > 0:
            return other
        days = np.union1d(self.days, other.days)
        one, two = self.at(days), other.at(days)
        return RecentDays(days, one + two if sign > 0 else one - two).without_empty_days()

    def at(self, days: IntArray) -> AipwSums:
        """Give every day of `days` its place, which must include all there are."""
        places = np.searchsorted(days, self.days)

        def spread(array: FloatArray) -> FloatArray:
            out = np.zeros((len(days), *array.shape[1:]))
            out[places] = array
            return out

        return AipwSums(self.sums.eligible, spread(self.sums.moments), spread(self.sums.earning))

    def without_empty_days(self) -> "RecentDays":
        """Drop days without a decision."""
        return self.select(
            (self.sums.sends != 0).any(axis=-1)
        )  # counts are whole: what goes leaves 0

    def select(self, kept: BoolArray) -> "RecentDays":
        """Return the days (D,) that are kept."""
        if kept.all():
            return self
        sums = AipwSums(self.sums.eligible, self.sums.moments[kept], self.sums.earning[kept])
        return RecentDays(self.days[kept], sums.without_empty())

    def since(self, day: int) -> "RecentDays":
        """Return the days from one on."""
        return self.select(self.days >= day)

    def total(self, first: int, last: int) -> AipwSums:
        """Sum the days from one to another, both included."""
        kept = (self.days >= first) & (self.days <= last)
        days = self.select(kept).sums
        return AipwSums(days.eligible, days.moments.sum(axis=0), days.earning.sum(axis=0))

    def padded(self, n_arms: int) -> "RecentDays":
        """Append arms that no decision could get, until there are `n_arms`."""
        return RecentDays(self.days, self.sums.padded(n_arms))

    def spread(self, like: "RecentDays") -> AipwSums:
        """Return sums in the days and sets of `like`, which must include all there are."""
        return self.at(like.days).spread(like.sums.eligible)

    def dump(self) -> bytes:
        """Serialise."""
        return msgspec.msgpack.encode((self.days.tolist(), self.sums.dump()))

    @classmethod
    def load(cls, packed: bytes) -> "RecentDays":
        """Read back what `dump` wrote."""
        days, sums = msgspec.msgpack.decode(packed)
        return cls(np.array(days, dtype=np.int64), AipwSums.load(sums))

    @classmethod
    def from_slots(cls, days: IntArray, sums: AipwSums) -> "RecentDays":
        """Take sums by the days of `days`, ascending; those without a decision are dropped."""
        return cls(days, sums).without_empty_days()


def sum_by_day(columns: Any, days: IntArray, first: int) -> tuple[AipwSums, RecentDays]:
    """Sum n decisions in all, and by day from the day `first` on.

    Args:
        columns: of `AipwSums.by_segment`: eligible sets, strata, arms, rewards, propensities, and
            what earned.
        days: (n,) of sending.
        first: the first day that is kept apart.
    """
    *decisions, earned = columns
    slots = np.full(len(days), -1)
    late = days >= first
    recent, slots[late] = distinct_places(days[late])
    slots[~late] = len(recent)
    sums = AipwSums.by_segment(
        *decisions, segments=slots[None], n_segments=len(recent) + 1, earned=earned
    )
    every = AipwSums(sums.eligible, sums.moments.sum(axis=0), sums.earning.sum(axis=0))
    kept = AipwSums(sums.eligible, sums.moments[:-1], sums.earning[:-1])
    return every, RecentDays.from_slots(recent, kept.without_empty())
