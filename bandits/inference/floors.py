"""Floor history: the floors that decisions were made under, which edits may change."""

from dataclasses import dataclass

import numpy as np

from bandits.additive import dump_arrays, load_arrays
from bandits.array_types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FloorHistory:
    """Counts of closed decisions by the floor that each was made under; additive.

    Attributes:
        values: (F,) ascending, those that have a decision.
        counts: (F,) decisions.
    """

    values: FloatArray
    counts: FloatArray

    @classmethod
    def zeros(cls) -> "FloorHistory":
        """Make the counts of no decision."""
        return cls(np.zeros(0), np.zeros(0))

    @classmethod
    def from_floors(cls, floors: FloatArray) -> "FloorHistory":
        """Count n decisions, each made under its floor (n,)."""
        values, counts = np.unique(floors, return_counts=True)
        return cls(values, counts.astype(np.float64))

    def __add__(self, other: "FloorHistory") -> "FloorHistory":
        return self._joined(other, 1.0)

    def __sub__(self, other: "FloorHistory") -> "FloorHistory":
        return self._joined(other, -1.0)

    def _joined(self, other: "FloorHistory", sign: float) -> "FloorHistory":
        if not len(other.values):
            return self
        if not len(self.values) and sign > 0:
            return other
        every = np.concatenate([self.values, other.values])
        values, place = np.unique(every, return_inverse=True)
        counts = np.concatenate([self.counts, sign * other.counts])
        joined = np.bincount(place.reshape(-1), counts, len(values))
        kept = joined != 0  # whole numbers: what is taken out leaves 0
        return FloorHistory(values[kept], joined[kept])

    def spread(self, values: FloatArray) -> FloatArray:
        """Return counts in the places of these floors, which must include all there are."""
        out = np.zeros(len(values))
        out[np.searchsorted(values, self.values)] = self.counts
        return out

    @property
    def least(self) -> float | None:
        """The least floor that a counted decision was made under, None without any."""
        return float(self.values[0]) if len(self.values) else None

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "FloorHistory":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)
