"""Problem: the arms that a policy chooses among, and the range of rewards."""

import numpy as np
from msgspec import Struct

from bandits.array_types import IntArray


class Problem(Struct, frozen=True, eq=False):
    """Arms to choose among, and the range of rewards.

    Attributes:
        arms: (K,) int, the experiment-wide index of each arm; a restricted problem has fewer.
        slot_levels: (K, n_slots) int, the variant of each slot that each arm shows.
        n_features: d, the length of an encoded context; 0 where there is none.
        low: the smallest reward an observation can have, finite: widths scale with the range.
        high: the largest reward an observation can have, finite.
        window: how long a reward counts, in the unit of time of whoever sums timed statistics.
    """

    arms: IntArray
    slot_levels: IntArray
    n_features: int = 0
    low: float = 0.0
    high: float = 1.0
    window: float = 1.0

    @classmethod
    def of(cls, n_arms: int, n_features: int = 0, low: float = 0.0, high: float = 1.0) -> "Problem":
        """Make the problem of `n_arms` variants of a single slot."""
        arms = np.arange(n_arms)
        return cls(arms, arms[:, None], n_features, low, high)

    @property
    def n_arms(self) -> int:
        """K, how many arms can be chosen."""
        return len(self.arms)

    @property
    def span(self) -> float:
        """The length of the interval that rewards lie in."""
        return self.high - self.low

    def take(self, positions: IntArray) -> "Problem":
        """Restrict to the arms at `positions` (m,), in that order."""
        return Problem(
            self.arms[positions],
            self.slot_levels[positions],
            self.n_features,
            self.low,
            self.high,
            self.window,
        )
