"""Late rewards: reward that is reported after maturity, when silence has counted as zero.

Over closed decisions its share is known. Over all that have matured, open ones too, it is what came
late so far, to which more may come: at least so much is known long before the first window closes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from bandits.additive import Additive, dump_arrays, field_values, load_arrays
from bandits.array_types import FloatArray, IntArray
from bandits.inference.confidence_sequences import rate_bounds

LIMIT = 0.1  # of all reward: more than this coming after maturity is warned of
SURE = 0.01  # the chance that open decisions are ever warned of without cause, at most
DIFFERS = 0.001  # the p-value below which arms answer at different speeds; looked at often


@dataclass(frozen=True, slots=True, eq=False)
class LateRewardSums(Additive):
    """Sums over decisions, closed or matured, each (K,); additive.

    Attributes:
        moved: Σ |r − r at maturity|.
        earned: Σ |r|; what sending costs left out of both.
        changed: decisions whose reward changed after maturity.
        answered: decisions that earned something, at maturity or after.
    """

    moved: FloatArray
    earned: FloatArray
    changed: FloatArray
    answered: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "LateRewardSums":
        """Make the sums over no decision."""
        none = np.zeros(n_arms)
        return cls(none, none, none, none)

    @classmethod
    def from_decisions(
        cls, arms: IntArray, rewards: FloatArray, at_maturity: FloatArray, n_arms: int
    ) -> "LateRewardSums":
        """Sum n decisions: arm, reward before costs, and what it was at maturity, (n,) each."""
        moved = np.abs(rewards - at_maturity)
        answered = (rewards != 0) | (at_maturity != 0)

        def total(values: FloatArray) -> FloatArray:
            return np.bincount(arms, values, n_arms).astype(np.float64)

        return cls(
            total(moved),
            total(np.abs(rewards)),
            total((moved != 0).astype(np.float64)),
            total(answered.astype(np.float64)),
        )

    def padded(self, n_arms: int) -> "LateRewardSums":
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - len(self.moved)
        if not missing:
            return self
        return LateRewardSums(*(np.pad(array, (0, missing)) for array in field_values(self)))

    @property
    def overall(self) -> float | None:
        """Share of all reward that came after maturity, None without any."""
        earned = self.earned.sum()
        return float(self.moved.sum() / earned) if earned > 0 else None

    @property
    def shares(self) -> list[float | None]:
        """Share of each arm's reward that came after maturity, None without any."""
        pairs = zip(self.moved.tolist(), self.earned.tolist(), strict=True)
        return [moved / earned if earned > 0 else None for moved, earned in pairs]

    @property
    def surely_late(self) -> bool:
        """True where more than `LIMIT` of reward came late, and of answers too beyond chance.

        Answers are counted by the confidence sequence of a rate, so that it may be looked at often.
        """
        changed, answered = self.changed.sum(), self.answered.sum()
        low, _ = rate_bounds(np.minimum(changed, answered), answered, SURE)
        return (self.overall or 0.0) > LIMIT and bool(low > LIMIT)

    @property
    def differs_p_value(self) -> float:
        """The p-value of "the arms that answer do so at one speed": Pearson's χ².

        Of the decisions that earned something, by arm, how many changed after maturity. Arms of
        which too little is expected for χ² (fewer than five of either kind) are left out.
        """
        changed, answered = self.changed, self.answered
        rate = changed.sum() / max(answered.sum(), 1.0)
        enough = answered * min(rate, 1 - rate) >= 5  # noqa: PLR2004 - Cochran's rule
        changed, answered = changed[enough], answered[enough]
        if len(changed) < 2:  # noqa: PLR2004 - a comparison needs two
            return 1.0
        rate = changed.sum() / answered.sum()
        expected = answered * rate
        statistic = np.sum((changed - expected) ** 2 / (expected * (1 - rate)))
        return float(chdtrc(len(changed) - 1, statistic))

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "LateRewardSums":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)
