"""Arm counts: what pages show by arm, kept beside the statistic and never forgotten."""

from dataclasses import dataclass

import numpy as np

from bandits.additive import Additive, dump_arrays, field_values, load_arrays
from bandits.array_types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ArmCounts(Additive):
    """Sums over decisions that were sent: activated, not cancelled, not a fallback.

    The K arms come first; the held-out subjects, who all get the control, are the last entry.

    Attributes:
        sent: (K + 1,) decisions whose clocks have started.
        complete: (K + 1,) of these, the ones that have matured.
        reward: (K + 1,) Σ r over the complete ones.
        square: (K + 1,) Σ r² over the complete ones.
        metrics: (M, K + 1) Σ of each metric's value over the complete ones.
    """

    sent: FloatArray
    complete: FloatArray
    reward: FloatArray
    square: FloatArray
    metrics: FloatArray

    @classmethod
    def zeros(cls, n_arms: int, n_metrics: int) -> "ArmCounts":
        """Make the counts of no decision."""
        none = np.zeros(n_arms + 1)
        return cls(none, none, none, none, np.zeros((n_metrics, n_arms + 1)))

    @classmethod
    def from_sent(
        cls, n_arms: int, n_metrics: int, arms: IntArray, holdout: BoolArray
    ) -> "ArmCounts":
        """Count n decisions as sent: arms, holdout (n,)."""
        sent = np.bincount(np.where(holdout, n_arms, arms), minlength=n_arms + 1)
        none = np.zeros(n_arms + 1)
        return cls(sent.astype(np.float64), none, none, none, np.zeros((n_metrics, n_arms + 1)))

    @classmethod
    def from_complete(
        cls,
        n_arms: int,
        arms: IntArray,
        holdout: BoolArray,
        rewards: FloatArray,
        metrics: FloatArray,
    ) -> "ArmCounts":
        """Count n decisions as complete: arms, holdout, rewards (n,), metrics (M, n)."""
        groups = np.where(holdout, n_arms, arms)

        def total(values: FloatArray | None) -> FloatArray:
            return np.bincount(groups, values, n_arms + 1).astype(np.float64)

        return cls(
            np.zeros(n_arms + 1),
            total(None),
            total(rewards),
            total(rewards**2),
            np.array([total(m) for m in metrics]).reshape(len(metrics), n_arms + 1),
        )

    @property
    def n_arms(self) -> int:
        """K, without the held-out group."""
        return len(self.sent) - 1

    def padded(self, n_arms: int) -> "ArmCounts":
        """Insert arms without decisions, before the held-out group, until there are `n_arms`."""
        missing = n_arms - self.n_arms
        if not missing:
            return self
        return ArmCounts(*(np.insert(a, [-1] * missing, 0.0, axis=-1) for a in field_values(self)))

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "ArmCounts":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)
