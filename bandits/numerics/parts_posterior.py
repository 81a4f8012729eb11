"""Posterior of arm means whose parts add up, nearly, or not at all: how much is learned as well.

The mean rewards of K arms are m exp(f) where rewards cannot be negative, and else m + s f, with,
before any data,

    f ~ N(0, a² K_main + c² K_pair + d² I + .3² 1 1ᵀ),

where m is the mean reward of all arms and s the scale of rewards. A part that brings a fifth more
does so at any rate, and of many arms a few may be several times as good as the others: so effects
multiply where they can. K_main adds up the kernels of the slots, K_pair those of two slots at a
time. The kernel of a slot with L variants is 1 where two arms show the same variant and −1 / (L −
1) elsewhere, so that variants of a slot are alike and their effects sum to 0; that of two slots is
the product. So a is how much single variants matter, c how much pairs of them do beyond that, and d
what no pair explains, as shares of m or s.

How large a, c and d are is learned too: they lie on a grid, whose points are weighed by the
likelihood that they give to the arms' observed means. Where parts add up, c and d shrink and arms
learn from each other; where they do not, every arm is soon learned by itself.

Source: variance components as in Searle, Casella and McCulloch (1992), "Variance Components";
posterior draws by conditioning draws of the prior (Matheron's rule: Wilson, Borovitskiy, Terenin,
Mostowsky and Deisenroth, 2020, "Efficiently sampling functions from Gaussian process posteriors",
section 3.1).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, product

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.policy import per_arm
from bandits.problem import Problem
from bandits.statistics import Moments
from bandits.statistics.statistic import NOTHING

MAIN = (0.05, 0.12, 0.3)
PAIRS = (0.0, 0.05, 0.1, 0.2, 0.4)
REST = (0.0, 0.05, 0.15, 0.3)
_COMMON = 0.3  # the standard deviation of the level of all arms
_SHRINKAGE = 50.0  # sends that the variance of all arms counts for in that of each
_EVENTS = 5.0  # independent rewards that m counts for where a logarithm is linearised


@dataclass(frozen=True, eq=False)
class PartsPosterior:
    """Frozen draws of the arms' means, one of which decides for each recipient.

    Attributes:
        statistic: sums by arm, fields (*lead, K).
        problem: the arms.
        rng: the generator of the draws, used once.
        n_draws: M.
    """

    statistic: Moments
    problem: Problem
    rng: Generator
    n_draws: int

    @cached_property
    def best(self) -> IntArray:
        """The best arm under each draw, (*lead, M)."""
        return self._draw_best(self.rng, self.n_draws)

    def _draw_best(self, rng: Generator, n: int) -> IntArray:
        """Return the best arm under each of n draws, (*lead, n).

        Draws are made in the order of the experiment's arms, so that each arm has the same ones
        whatever the order here.
        """
        residuals, precision = self._observed()
        *lead, _ = precision.shape
        out = np.empty((*lead, n), np.int64)
        order = np.argsort(self.problem.arms)
        prior = _Prior.of(self.problem.slot_levels[order])
        roots = np.sqrt(precision)[..., order]
        scaled = residuals[..., order] * roots
        for at in np.ndindex(*lead):
            draws = prior.draw(scaled[at], roots[at], rng, n)
            out[at] = order[draws.argmax(axis=-1)]
        return out

    def _observed(self) -> tuple[FloatArray, FloatArray]:
        """Return f as it was observed and the precision of that, (*lead, K) each.

        A precision is 0 for an arm without data. The variance of an arm's rewards is drawn towards
        that of all arms as if that had come from `_SHRINKAGE` more sends; a first guess of it, that
        of rewards at both ends of the range, counts once.

        Where effects multiply, f is linearised at θ, between the arm's mean and m: of few rewards
        the logarithm would be anything, and an arm without one has none. The variance of all arms
        is taken to be in proportion to θ, as that of counts is.
        """
        statistic, sends = self.statistic, self.statistic.count
        around = np.maximum(statistic.square - sends * statistic.means**2, 0)
        common = (around.sum(axis=-1, keepdims=True) + (self.problem.span / 2) ** 2) / (
            statistic.rounds + 1
        )
        level, scale = statistic.pooled_mean, self._scale[..., None]
        if self.problem.low < 0:
            variance = (around + _SHRINKAGE * common) / (sends + _SHRINKAGE)
            return (statistic.means - level) / scale, _known(sends) * scale**2 / variance
        weight = _EVENTS * common / scale**2  # in sends
        theta = (statistic.total + weight * scale) / (sends + weight)
        variance = (around + _SHRINKAGE * common * theta / scale) / (sends + _SHRINKAGE)
        residuals = statistic.means / theta - 1 + np.log(theta / scale)
        return residuals, _known(sends) * theta**2 / variance

    @cached_property
    def _scale(self) -> FloatArray:
        """s, the scale of rewards, (*lead,); m where they cannot be negative.

        The mean reward would vanish for margins of both signs; the mean square stays. One reward of
        the largest size is taken for granted before the first one, so that it is above 0.
        """
        statistic, largest = self.statistic, max(abs(self.problem.low), abs(self.problem.high))
        total = np.abs(statistic.total.sum(axis=-1))
        if self.problem.low < 0:
            total = np.maximum(total, statistic.square.sum(axis=-1) / largest)
        sends = np.maximum(statistic.count.sum(axis=-1), 1.0)
        return np.where(total > NOTHING, total, largest) / sends

    @cached_property
    def chances(self) -> FloatArray:
        """The share of draws in which each arm is the best, (*lead, K)."""
        n_arms, best = self.problem.n_arms, self.best
        cells = best + n_arms * np.arange(best[..., 0].size).reshape(*best.shape[:-1], 1)
        counts = np.bincount(cells.ravel(), minlength=n_arms * best[..., 0].size)
        return counts.reshape(*best.shape[:-1], n_arms) / self.n_draws

    def draw(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the draws for each of contexts (*lead, *batch, d), and its best arm."""
        shape = per_arm(self.statistic.count, contexts)[:-1]
        lead = self.statistic.count.shape[:-1]
        if len(shape) == len(lead):  # one recipient a state: their draw need not be frozen
            return self._draw_best(rng, 1)[..., 0]
        which = rng.integers(self.n_draws, size=(*lead, int(np.prod(shape[len(lead) :]))))
        return np.take_along_axis(self.best, which, axis=-1).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Prior:
    """The prior of f at the G points of the grid.

    Attributes:
        main: features of single variants, (K, A): main · mainᵀ = K_main.
        pair: features of pairs, (K, B).
        shares: (G, 3), a, c and d.
        covariance: (G, K, K).
    """

    main: FloatArray
    pair: FloatArray
    shares: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, slot_levels: IntArray) -> "_Prior":
        """Return the prior of arms that show these variants, (K, n_slots)."""
        return _prior(slot_levels.tobytes(), slot_levels.shape, slot_levels.dtype.str)

    def draw(self, residuals: FloatArray, root: FloatArray, rng: Generator, n: int) -> FloatArray:
        """Draw f from its posterior: (n, K).

        Args:
            residuals: (K,), f as observed, over its standard error; 0 without data.
            root: (K,), 1 / standard error; 0 without data.
            rng: the generator of the draws.
            n: how many.
        """
        inverse, log_determinants = _inverse(self.covariance * root * root[:, None])
        fit = residuals @ inverse @ residuals
        weights = np.exp(-(log_determinants + fit - (log_determinants + fit).min()) / 2)
        places = (np.arange(n) + rng.random()) / n
        points = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], places, side="right")
        a, c, d = self.shares[points].T[..., None]
        drawn = (
            a * (rng.standard_normal((n, self.main.shape[1])) @ self.main.T)
            + c * (rng.standard_normal((n, self.pair.shape[1])) @ self.pair.T)
            + d * rng.standard_normal((n, len(root)))
            + _COMMON * rng.standard_normal((n, 1))
        )
        missed = residuals - drawn * root - rng.standard_normal((n, len(root)))
        ends = np.searchsorted(points, np.arange(len(inverse)), side="right")  # points ascend
        for point in np.unique(points):
            rows = slice(ends[point - 1] if point else 0, ends[point])
            gain = (inverse[point] * root) @ self.covariance[point]
            drawn[rows] += missed[rows] @ gain
        return drawn


def _known(sends: FloatArray) -> FloatArray:
    """Return sends, and 0 where subtracting has left a little of them."""
    return np.where(sends > NOTHING, sends, 0.0)


@lru_cache(maxsize=64)
def _prior(levels: bytes, shape: tuple[int, int], dtype: str) -> _Prior:
    slots = np.frombuffer(levels, dtype).reshape(shape)
    single = [_variant_features(slot) for slot in slots.T]
    main = np.concatenate([*single, np.zeros((len(slots), 0))], axis=1)
    pairs = [
        (one[:, :, None] * other[:, None, :]).reshape(len(slots), -1)
        for one, other in combinations(single, 2)
    ]
    pair = np.concatenate([*pairs, np.zeros((len(slots), 0))], axis=1)
    shares = np.array(list(product(MAIN, PAIRS, REST)))
    a, c, d = (shares.T**2)[..., None, None]
    covariance = a * (main @ main.T) + c * (pair @ pair.T) + d * np.eye(len(slots)) + _COMMON**2
    return _Prior(main, pair, shares, covariance)


def _variant_features(slot: IntArray) -> FloatArray:
    """Lay out the variants (K,) of a slot so that products are its kernel: (K, L)."""
    shown = (slot[:, None] == np.unique(slot)).astype(np.float64)
    count = shown.shape[1]
    if count == 1:
        return np.zeros((len(slot), 0))
    return (shown - 1 / count) * np.sqrt(count / (count - 1))


def _inverse(scaled: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (I + scaled)⁻¹ of (G, K, K) and log |I + scaled|, (G,); scaled ≥ 0."""
    root = np.linalg.cholesky(scaled + np.eye(scaled.shape[-1]))
    log_determinants = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    inverse_root = np.linalg.inv(root)
    return inverse_root.swapaxes(-1, -2) @ inverse_root, log_determinants
