"""When a look at an A/B test drops arms: the rules that its tests are read by."""

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from scipy.special import ndtr, stdtr

from bandits.array_types import BoolArray, FloatArray
from bandits.statistics import Moments
from simulations.ab_tests.rotation import best_of, only_best

_TINY = 1e-12  # variance of a mean below which two means differ by more than chance if at all


class FixedHorizonRule(Struct, frozen=True):
    """End at the first look; with a level, keep the control, the first arm, unless it is beaten.

    Rates are compared by the z test that pools them, values by Welch's.
    """

    level: float | None = None
    rates: bool = False

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:  # noqa: ARG002 - there is one look
        """Keep the winner."""
        best = only_best(known, racing, rng)
        if self.level is None:
            return best
        p_values = _pooled_p(known, best) if self.rates else _welch_p(known, best)
        beaten = p_values[:, :1] < self.level
        control = np.arange(racing.shape[-1]) == 0
        return np.where(beaten, best, control)


class GroupSequentialRule(Struct, frozen=True):
    """End where the best arm's z against every other reaches barrier / √look."""

    barrier: float
    looks: int

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:
        """Keep the winner where it is clear, or the last look has come."""
        best = only_best(known, racing, rng)
        z = np.where(best | ~racing, np.inf, _z_against(known, best))
        clear = z.min(axis=1, keepdims=True) >= self.barrier / np.sqrt(look)
        return np.where(clear | (look >= self.looks), best, racing)


class EliminationRule(Struct, frozen=True):
    """Drop arms whose upper bound lies below another's lower bound."""

    delta: float
    span: float

    def keep(self, known: Moments, racing: BoolArray, look: int, rng: Generator) -> BoolArray:  # noqa: ARG002 - no tie matters
        """Keep what could still be the best; Σ 1 / (look (look + 1)) = 1 shares δ among looks."""
        parts = 3.0 * racing.shape[-1] * look * (look + 1)
        log = np.log(parts) - np.log(self.delta)  # their quotient may be too large for a number
        count = np.maximum(known.count, 1)
        radius = np.sqrt(2 * known.variances * log / count) + 3 * self.span * log / count
        radius = np.where(known.count > 0, radius, np.inf)
        means = best_of(known, racing)
        lower = np.where(racing, means - radius, -np.inf).max(axis=1, keepdims=True)
        return racing & (means + radius >= lower)


def _z_against(known: Moments, best: BoolArray) -> FloatArray:
    """Return how many standard errors the best arm, marked in (R, K), is above each: (R, K)."""
    error = known.variances / np.maximum(known.count, 1)
    mean, own = ((best * values).sum(axis=1, keepdims=True) for values in (known.means, error))
    return (mean - known.means) / np.sqrt(np.maximum(own + error, _TINY))


def _pooled_p(known: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of the pooled z test of the best arm's rate: (R, K)."""
    n = (best * known.count).sum(axis=1, keepdims=True)
    wins = (best * known.total).sum(axis=1, keepdims=True)
    pooled = (wins + known.total) / np.maximum(n + known.count, 1)
    error = pooled * (1 - pooled) * (1 / np.maximum(n, 1) + 1 / np.maximum(known.count, 1))
    mean = (best * known.means).sum(axis=1, keepdims=True)
    return 2 * ndtr(-np.abs(mean - known.means) / np.sqrt(np.maximum(error, _TINY)))


def _welch_p(known: Moments, best: BoolArray) -> FloatArray:
    """Return two-sided p-values of Welch's test of the best arm against each: (R, K)."""
    count = np.maximum(known.count, 2)
    error = np.maximum(known.variances / (count - 1), _TINY)
    own = (best * error).sum(axis=1, keepdims=True)
    n = (best * count).sum(axis=1, keepdims=True)
    freedom = (own + error) ** 2 / (own**2 / (n - 1) + error**2 / (count - 1))
    mean = (best * known.means).sum(axis=1, keepdims=True)
    return 2 * stdtr(freedom, -np.abs(mean - known.means) / np.sqrt(own + error))
