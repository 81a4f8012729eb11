"""Sample ratio: a check that arms were sent as often as their logged probabilities say.

Under adaptive allocation there are no equal shares to compare with. But 1{A_t = k} − π_t(k) has
mean 0 given the past, so the number of sends of arm k is compared with Σ π_t(k), and its variance
is Σ π_t(k) (1 − π_t(k)): the diagonal of Σ (diag π − ππᵀ), which is all that a check of each arm
by itself needs, and takes K numbers instead of K². After Fabijan et al. (2019), "Diagnosing sample
ratio mismatch in online controlled experiments", who compare with fixed shares.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from bandits.additive import Additive, dump_arrays, field_values, load_arrays
from bandits.array_types import BoolArray, FloatArray, IntArray

_TINY = 1e-300  # in place of 0, where what comes of it is not used
ALARM = 0.001  # per arm: strict, since it is looked at often; 100 clean looks at .05 alarm 29 %


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatio(Additive):
    """Sums over decisions that were activated and not cancelled; additive, each field (..., K).

    Held-out subjects and fallbacks are left out: they were not drawn from these probabilities.

    Attributes:
        sent: decisions of each arm.
        expected: Σ π.
        square: Σ π².
    """

    sent: FloatArray
    expected: FloatArray
    square: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "SampleRatio":
        """Make the sums over no decision."""
        none = np.zeros(n_arms)
        return cls(none, none, none)

    @classmethod
    def from_draws(cls, arms: IntArray, probabilities: FloatArray) -> "SampleRatio":
        """Sum n decisions.

        Args:
            arms: (n,) the arm of each.
            probabilities: (n, K) of every arm for each, or (K,) where they were the same for all;
                0 for arms that it could not get.
        """
        n_arms = probabilities.shape[-1]
        sent = np.bincount(arms, minlength=n_arms).astype(np.float64)
        if probabilities.ndim == 1:
            return cls(sent, len(arms) * probabilities, len(arms) * probabilities**2)
        return cls(sent, probabilities.sum(axis=0), (probabilities**2).sum(axis=0))

    def spread(self, arms: IntArray, n_arms: int) -> "SampleRatio":
        """Put sums over a choice among `arms` (m,) in their places among K."""
        sums = np.zeros((3, n_arms))
        sums[:, arms] = self.sent, self.expected, self.square
        return SampleRatio(*sums)

    def padded(self, n_arms: int) -> "SampleRatio":
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - self.sent.shape[-1]
        if not missing:
            return self
        lead = [(0, 0)] * (self.sent.ndim - 1)
        return SampleRatio(*(np.pad(a, [*lead, (0, missing)]) for a in field_values(self)))

    @property
    def excess(self) -> FloatArray:
        """Sends beyond what was expected, (..., K)."""
        return self.sent - self.expected

    @property
    def variance(self) -> FloatArray:
        """Σ π (1 − π), (..., K)."""
        return np.maximum(self.expected - self.square, 0.0)

    @property
    def p_values(self) -> FloatArray:
        """The two-sided p-value of each arm, (..., K).

        Sends follow a sum of unlike Bernoulli variates, taken as the binomial of the same mean and
        variance (Ehm, 1991): unlike the normal it is right for an arm at its minimum share, of
        which three sends are expected. Where all probabilities are the same it is exact.
        """
        sent, expected = self.sent, self.expected
        possible = expected > 0
        rate = np.divide(self.square, expected, out=np.ones(sent.shape), where=possible)
        rate = np.clip(rate, _TINY, 1.0)
        trials = expected / rate
        at_least = betainc(np.maximum(sent, 1), np.maximum(trials - sent + 1, _TINY), rate)
        at_most = betainc(np.maximum(trials - sent, _TINY), sent + 1, 1 - rate)
        at_least = np.where(sent <= 0, 1.0, np.where(sent >= trials + 1, 0.0, at_least))
        at_most = np.where(sent >= trials, 1.0, at_most)
        p = np.minimum(1.0, 2 * np.minimum(at_least, at_most))
        return np.where(possible, p, np.where(sent > 0, 0.0, 1.0))

    def alarms(self, level: float = ALARM) -> BoolArray:
        """Mark the arms that were sent too often or too rarely to be chance, (..., K)."""
        return self.p_values < level

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "SampleRatio":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)
