"""Cohorts: counts of closed decisions by period of sending and by the set of arms they could get.

A version that joins, or pauses, begins a new set; so does a request that names the variants it may
get. The former only follows time, the latter may follow the recipient. Comparisons use decisions
that could have got all that is compared, and these counts say when those were sent.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray, distinct_places


@dataclass(frozen=True, slots=True, eq=False)
class CohortCounts:
    """Counts of closed decisions by period and set; additive.

    Attributes:
        sets: (G, K) which arms decisions of each set could get,
        requested: (G,) true where the request narrowed it; rows of both together differ.
        numbers: (P,) periods, ascending; see `bandits.inference.periods`.
        counts: (P, G) decisions.
    """

    sets: BoolArray
    requested: BoolArray
    numbers: IntArray
    counts: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "CohortCounts":
        """Make the counts of no decision."""
        return cls(
            np.zeros((0, n_arms), dtype=np.bool_),
            np.zeros(0, dtype=np.bool_),
            np.zeros(0, dtype=np.int64),
            np.zeros((0, 0)),
        )

    @classmethod
    def from_decisions(
        cls, sets: BoolArray, requested: BoolArray, strata: IntArray, periods: IntArray
    ) -> "CohortCounts":
        """Count n decisions, each of its set and its period, (n,) both."""
        numbers, rows = distinct_places(periods)
        cells = rows * len(sets) + strata
        counts = np.bincount(cells, minlength=len(numbers) * len(sets)).astype(np.float64)
        return _canonical(sets, requested, numbers, counts.reshape(len(numbers), len(sets)))

    def __add__(self, other: "CohortCounts") -> "CohortCounts":
        return self._joined(other, 1.0)

    def __sub__(self, other: "CohortCounts") -> "CohortCounts":
        return self._joined(other, -1.0)

    def _joined(self, other: "CohortCounts", sign: float) -> "CohortCounts":
        if not len(other.sets):
            return self
        if not len(self.sets) and sign > 0:
            return other
        numbers = np.union1d(self.numbers, other.numbers)
        if np.array_equal(self.rows, other.rows):  # nearly always: both are in order
            added = self.at(numbers) + sign * other.at(numbers)
            return _without_empty(self.sets, self.requested, numbers, added)
        counts = np.zeros((len(numbers), len(self.sets) + len(other.sets)))
        counts[:, : len(self.sets)] = self.at(numbers)
        counts[:, len(self.sets) :] = sign * other.at(numbers)
        return _canonical(
            np.concatenate([self.sets, other.sets]),
            np.concatenate([self.requested, other.requested]),
            numbers,
            counts,
        )

    def at(self, numbers: IntArray) -> FloatArray:
        """Return counts (P, G) in the places of these periods, which must include all there are."""
        counts = np.zeros((len(numbers), len(self.sets)))
        counts[np.searchsorted(numbers, self.numbers)] = self.counts
        return counts

    def padded(self, n_arms: int) -> "CohortCounts":
        """Append arms that no decision could get, until there are `n_arms`."""
        missing = n_arms - self.sets.shape[-1]
        if not missing:
            return self
        sets = np.pad(self.sets, [(0, 0), (0, missing)])
        return CohortCounts(sets, self.requested, self.numbers, self.counts)

    def spread(self, like: "CohortCounts") -> FloatArray:
        """Return counts in the places of `like`, which must include all there are."""
        places = {row.tobytes(): i for i, row in enumerate(like.rows)}
        columns = np.array([places[row.tobytes()] for row in self.rows], dtype=np.int64)
        out = np.zeros(like.counts.shape)
        out[np.ix_(np.searchsorted(like.numbers, self.numbers), columns)] = self.counts
        return out

    @property
    def rows(self) -> BoolArray:
        """What distinguishes the sets: (G, 1 + K), requested or not, and the arms."""
        return np.column_stack([self.requested, self.sets])

    @property
    def narrowed(self) -> bool:
        """True where any counted decision's request had narrowed its set."""
        return bool(self.requested.any())

    def weights(self, arms: IntArray) -> FloatArray:
        """Count, by period (P,), the decisions that could have got all of `arms`."""
        used = self.sets[:, arms].all(axis=-1)
        weights: FloatArray = self.counts[:, used].sum(axis=-1)
        return weights

    def dump(self) -> bytes:
        """Serialise."""
        rows = [np.flatnonzero(row).tolist() for row in self.sets]
        columns = (rows, self.requested.tolist(), self.numbers.tolist(), self.counts.tolist())
        return msgspec.msgpack.encode((self.sets.shape[-1], *columns))

    @classmethod
    def load(cls, packed: bytes) -> "CohortCounts":
        """Read back what `dump` wrote."""
        n_arms, rows, requested, numbers, counts = msgspec.msgpack.decode(packed)
        sets = np.zeros((len(rows), n_arms), dtype=np.bool_)
        for i, row in enumerate(rows):
            sets[i, row] = True
        return cls(
            sets,
            np.array(requested, dtype=np.bool_),
            np.array(numbers, dtype=np.int64),
            np.array(counts, dtype=np.float64).reshape(len(numbers), len(rows)),
        )


def _canonical(
    sets: BoolArray, requested: BoolArray, numbers: IntArray, counts: FloatArray
) -> CohortCounts:
    """Merge rows that are alike, drop empty rows and periods, and put them in order."""
    rows, merged = np.column_stack([requested, sets]), counts
    if len(rows) > 1:
        rows, place = np.unique(rows, axis=0, return_inverse=True)
        merged = np.zeros((len(numbers), len(rows)))
        np.add.at(merged.T, place.reshape(-1), counts.T)
    return _without_empty(rows[:, 1:], rows[:, 0], numbers, merged)


def _without_empty(
    sets: BoolArray, requested: BoolArray, numbers: IntArray, counts: FloatArray
) -> CohortCounts:
    """Drop empty rows and periods: counts are whole, so what goes leaves 0."""
    used, kept = (counts != 0).any(axis=0), (counts != 0).any(axis=1)
    if used.all() and kept.all():
        return CohortCounts(sets, requested, numbers, counts)
    return CohortCounts(sets[used], requested[used], numbers[kept], counts[np.ix_(kept, used)])
