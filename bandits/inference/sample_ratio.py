"""Sample ratio: a check that arms were sent as often as their logged probabilities say.

Under adaptive allocation there are no equal shares to compare with. But 1{A_t = k} − π_t(k) has
mean 0 given the past, whatever chose π_t, so the number of sends of arm k is compared with
Σ π_t(k). S = Σ (1{A = k} − π) has the variance given the past V = Σ π (1 − π): the diagonal of
Σ (diag π − ππᵀ), which is all that a check of each arm by itself needs, and takes K numbers instead
of K². After Fabijan et al. (2019), "Diagnosing sample ratio mismatch in online controlled
experiments", who compare with fixed shares.

It is looked at all day, so each look must not be a chance of its own to alarm: at p < .001 and 100
looks, 3 % of sound campaigns of two arms would alarm, and 70 % of those of sixty. For any λ,
exp(λ S − (e^|λ| − 1 − |λ|) V) is a supermartingale that starts at 1 (Bennett, 1962; Freedman, 1975,
theorem 1.6), and so is any mixture over λ, which by Ville's inequality (1939) ever reaches 1/α with
probability at most α. This needs no burn-in and no normal approximation, so it holds for an arm of
which three sends are expected. Mixing over λ is the method of Robbins (1970); see Howard et al.
(2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences".
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from bandits.additive import Additive, dump_arrays, field_values, load_arrays
from bandits.array_types import BoolArray, FloatArray, IntArray

ALARM = 0.0075  # the chance that any arm of a sound experiment ever alarms, at most
_SMALLEST_TILT = 2e-4  # λ of a loss of .02 %, which 10⁹ sends show
_TILT_STEP = 1.25
_N_TILTS = 44  # up to λ = 3, emails sent many times over
_TYPICAL = ((0.03, 0.85), (0.3, 0.15))  # scale and weight: a few emails in a hundred, or many


def _mixture() -> tuple[FloatArray, FloatArray]:
    """Return the tilts λ (J,) of both signs, and the logarithms of their weights (J,)."""
    sizes = _SMALLEST_TILT * _TILT_STEP ** np.arange(_N_TILTS)
    densities = [w / s * np.exp(-((sizes / s) ** 2) / 2) for s, w in _TYPICAL]
    weights = sizes * np.sum(densities, axis=0)  # each stands for a stretch as long as itself
    log_weights = np.log(weights / weights.sum() / 2)
    return np.concatenate([sizes, -sizes]), np.concatenate([log_weights, log_weights])


_TILTS, _LOG_WEIGHTS = _mixture()


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
    def evidence(self) -> FloatArray:
        """Logarithm of the mixture for each arm: evidence, in nats, that its split is wrong."""
        sizes = np.abs(_TILTS)
        costs = np.expm1(sizes) - sizes
        logs = _TILTS * self.excess[..., None] - costs * self.variance[..., None]
        mixed = np.asarray(logsumexp(logs + _LOG_WEIGHTS, axis=-1))
        return np.where(self.expected > 0, mixed, np.where(self.sent > 0, np.inf, 0.0))

    @property
    def p_values(self) -> FloatArray:
        """A p-value of each arm that holds however often one looks, (..., K): 1 / mixture."""
        return np.exp(-np.maximum(self.evidence, 0.0))

    @property
    def level(self) -> float:
        """The p-value below which an arm alarms: α / K."""
        return ALARM / max(self.sent.shape[-1], 1)

    def alarms(self) -> BoolArray:
        """Mark the arms that were sent too often or too rarely to be chance, (..., K)."""
        return self.p_values < self.level

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "SampleRatio":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)
