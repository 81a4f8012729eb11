"""Chance of each arm to be the best, and expected loss of sending only it: Bayes numbers.

With posteriors θ_k, the chance to be best is P(θ_k = max θ), and the expected loss of sending only
arm k is E[max θ] − E[θ_k] (Stucchio, 2015, "Bayesian A/B testing at VWO", section on the loss
function). Both are computed, not drawn.

**The prior is learned from the arms** (empirical Bayes; Gelman, 2006, "Prior distributions for
variance parameters in hierarchical models", sections 2 and 5): θ_k ~ N(μ, τ²), and the mean reward
m_k that arm k has shown is θ_k but for noise of variance v_k. A flat prior for each arm, as Beta(1,
1) is, takes the luckiest of many arms for as good as it looks. Here it is drawn towards the others
by as much as these differ.

**Some arms are apart.** One arm far behind the others would make τ large, and the best of the
others as good as it looks again; one far ahead would be drawn to others that say nothing of it. So
one arm in twenty is of another kind, θ_k ~ N(μ, (20 τ)²), and which are is not known (a
contaminated normal distribution; Tukey, 1960). Given τ and μ each arm is then a mixture of two
normal variates, and arms are independent.

Neither is known, so the answers are mixed over nodes of both, by marginal likelihood times prior.
Those of μ are made for the normal distribution that it would have, were the kinds of arms those
that its likeliest value says; given kinds it is centred by 1 / (v_k + τ²), since a mean weighted by
sends would be that of the arm that is sent most. Those of τ are chosen twice: over all values, and
where these count.

**The prior of τ** is half of a Cauchy distribution. Its scale is the noise of a typical arm or, if
that is less, .8 % of what an email earns: variants of an email differ by some per cent of that, and
the tail leaves room for those that differ more. It has no unit, so results in another currency are
the same.

How the data were collected needs no correction: given what has been seen, the likelihood of the
arms' means is the same whatever rule chose the next arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from msgspec import Struct
from numpy.polynomial import hermite_e
from scipy.special import expit, ndtr, ndtri

from bandits.array_types import BoolArray, FloatArray

WARNING = (
    "Chances to be best take rates as constant, and judge each version in the light of the others. "
    "They can look high by luck: where two versions do not differ at all, one reaches a chance of "
    "95 % in up to one test of ten, if you look a hundred times. Do not stop on a chance alone. "
    "Intervals hold however often you look."
)

_RELATIVE = 0.008  # a small difference between arms, relative to what an email earns
_APART = 0.05  # part of arms that are apart from the others,
_FURTHER = 20.0  # and how many times further from the common mean they may be
_LEAST, _MOST = 0.02, 10.0  # τ: from this part of the prior's scale to this multiple of differences
_ROUNDS = 6  # towards the common mean, from the median on
_FEW_ARMS = 12  # up to which μ needs more nodes, since one arm's kind moves it
_BELOW = 1e-5  # chance of the largest to lie before the first point
_TOGETHER = (1, 4, 16)  # numbers of arms whose distribution functions bound that of the largest
_REACH = 5.0  # standard deviations beyond which a normal density is nothing
_RARE = 1e-6  # share of a kind that is nothing
_SMALLEST = 1e-300  # in place of a distribution function that rounded to 0


@dataclass(frozen=True, slots=True)
class Grid:
    """How finely answers are mixed over τ and μ, and densities are summed.

    Attributes:
        wide: values of τ from the least to the most that are looked at,
        scales: and values where these count.
        centres: values of μ for each,
        wider: and by how much they are further out than for a normal distribution.
        step: between points of a density, as a part of their distance from the first.
        negligible: weight of τ and μ relative to the likeliest, below which they are left out.
    """

    wide: int
    scales: int
    centres: int
    wider: float
    step: float
    negligible: float = 1e-3

    def finer(self, times: int) -> "Grid":
        """Return a grid with so many times as many values and points."""
        return replace(
            self,
            wide=self.wide * times,
            scales=self.scales * times,
            centres=self.centres * times,
            step=self.step / times,
            negligible=self.negligible / times**2,
        )


def grid_of(n_arms: int) -> Grid:
    """Return a grid that is exact to .002 in chances, to .005 of two or three arms.

    Of few arms μ may have two likely values, one beside each, and the largest is less certain to
    lie beyond any point.
    """
    if n_arms < _TOGETHER[1]:
        return Grid(wide=24, scales=12, centres=15, wider=1.5, step=0.04)
    if n_arms <= _FEW_ARMS:
        return Grid(wide=24, scales=24, centres=9, wider=1.5, step=0.1)
    return Grid(wide=24, scales=16, centres=5, wider=1.5, step=0.15)


class BestArmEstimate(Struct, frozen=True, eq=False):
    """Chances and losses of each arm, (..., K).

    Attributes:
        chances: to be the best; rows sum to 1.
        losses: expected loss of sending only this arm, per decision, at least 0.
        warning: the limits of these numbers; to be shown where they are.
    """

    chances: FloatArray
    losses: FloatArray
    warning: str = WARNING


def estimate_best_arm(
    means: FloatArray, variances: FloatArray, earned: FloatArray, grid: Grid | None = None
) -> BestArmEstimate:
    """Judge arms by the mean rewards that they have shown.

    Args:
        means: (..., K), of which the largest is the best.
        variances: (..., K) above 0, of these means around the true ones.
        earned: (...) what an email earns, at least 0: the size of its mean reward.
        grid: how finely; unless given, as `grid_of` has it.
    """
    grid = grid or grid_of(means.shape[-1])
    prior_scale, scales = _wide_scales(means, variances, earned, grid)
    rough = _weigh(means, variances, scales, prior_scale, replace(grid, centres=1))
    scales = _narrowed(scales, rough.weights[..., 0] > grid.negligible, grid)
    nodes = _weigh(means, variances, scales, prior_scale, grid)
    tau, mu = np.nonzero((nodes.weights > grid.negligible).reshape(-1, *nodes.shape).any(axis=0))
    weights = nodes.weights[..., tau, mu]
    weights = weights / weights.sum(axis=-1, keepdims=True)
    centres, apart = nodes.centres[..., tau, mu, None], nodes.apart[..., tau, mu, :]
    locations, deviations = [], []
    for further in (1.0, _FURTHER):
        drawn = _drawn(variances, further * scales)[..., tau, :]
        locations.append(centres + drawn * (means[..., None, :] - centres))
        deviations.append(np.sqrt(drawn * variances[..., None, :]))
    chances, losses = _independent(locations, deviations, (1 - apart, apart), grid.step)
    losses = (losses * weights[..., None]).sum(axis=-2)
    chances = (chances * weights[..., None]).sum(axis=-2)
    return BestArmEstimate(np.minimum(chances, 1.0), losses)  # not above it by rounding


def _drawn(variances: FloatArray, scales: FloatArray) -> FloatArray:
    """Return the weight (..., T, K) of an arm's own mean beside μ, for deviations (..., T)."""
    squares = scales[..., None] ** 2
    return squares / (variances[..., None, :] + squares)


def _wide_scales(
    means: FloatArray, variances: FloatArray, earned: FloatArray, grid: Grid
) -> tuple[FloatArray, FloatArray]:
    """Return the scale of τ's prior (...,), and values of τ (..., T) that leave out none."""
    noise = np.sqrt(1.0 / np.mean(1.0 / variances, axis=-1))
    typical = np.where(earned > 0, np.minimum(noise, _RELATIVE * earned), noise)
    largest = _MOST * np.maximum(np.ptp(means, axis=-1), noise)
    return typical, np.geomspace(_LEAST * typical, largest, grid.wide, axis=-1)


def _narrowed(scales: FloatArray, kept: BoolArray, grid: Grid) -> FloatArray:
    """Return as many values of τ as are enough, from one before the kept (..., T) to one after."""
    place = np.arange(grid.wide)
    first = np.where(kept, place, grid.wide).min(axis=-1, keepdims=True)
    last = np.where(kept, place, 0).max(axis=-1, keepdims=True)
    ends = [np.maximum(first - 1, 0), np.minimum(last + 1, grid.wide - 1)]
    low, high = (np.take_along_axis(scales, end, axis=-1)[..., 0] for end in ends)
    return np.geomspace(low, high, grid.scales, axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Values of τ, T of them, and M of μ for each.

    Attributes:
        weights: (..., T, M) relative to the likeliest.
        centres: (..., T, M) values of μ.
        apart: (..., T, M, K) the chance of each arm to be apart.
    """

    weights: FloatArray
    centres: FloatArray
    apart: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        """T and M."""
        return self.weights.shape[-2:]


@dataclass(frozen=True, slots=True, eq=False)
class _Likelihood:
    """Likelihood of μ, given each of T values of τ, by what arms have shown.

    Attributes:
        means: (..., 1, K).
        near: (..., T, K) 1 / variance of an arm's mean around μ, where it is not apart,
        far: and where it is.
        log_odds: (..., T, K) of an arm to be apart, whose mean is μ.
    """

    means: FloatArray
    near: FloatArray
    far: FloatArray
    log_odds: FloatArray

    @classmethod
    def of(cls, means: FloatArray, variances: FloatArray, scales: FloatArray) -> "_Likelihood":
        """Take means and variances (..., K), and values of τ (..., T)."""
        spreads = [(further * scales[..., None]) ** 2 for further in (1.0, _FURTHER)]
        near, far = (1 / (variances[..., None, :] + spread) for spread in spreads)
        log_odds = np.log(_APART / (1 - _APART)) + np.log(far / near) / 2
        return cls(means[..., None, :], near, far, log_odds)

    def mode(self) -> tuple[FloatArray, FloatArray]:
        """Find the likeliest μ, and the standard deviation about it, (..., T) each.

        By expectation and maximisation over kinds of arms (Dempster, Laird and Rubin, 1977); of
        these the deviation is, were they those that the likeliest μ says.
        """
        lost = self.near - self.far
        centre = np.median(self.means, axis=-1)
        for _ in range(_ROUNDS):
            squares = (self.means - centre[..., None]) ** 2
            precisions = self.near - expit(self.log_odds + lost * squares / 2) * lost
            information = precisions.sum(axis=-1)
            centre = (precisions * self.means).sum(axis=-1) / information
        return centre, 1.0 / np.sqrt(information)

    def at(self, centres: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the log-likelihood of values of μ (..., T, M), and chances to be apart by arm.

        Returns:
            (..., T, M) up to a constant, and (..., T, M, K).
        """
        near, lost = self.near[..., None, :], (self.near - self.far)[..., None, :]
        squares = (self.means[..., None, :] - centres[..., None]) ** 2
        log_odds = self.log_odds[..., None, :] + lost * squares / 2
        logs = np.logaddexp(0.0, log_odds) - near * squares / 2
        return logs.sum(axis=-1) + np.log(near).sum(axis=-1) / 2, expit(log_odds)


def _weigh(
    means: FloatArray,
    variances: FloatArray,
    scales: FloatArray,
    prior_scale: FloatArray,
    grid: Grid,
) -> _Nodes:
    """Weigh values of τ (..., T), with some of μ for each, by prior and likelihood."""
    likelihood = _Likelihood.of(means, variances, scales)
    centre, deviation = likelihood.mode()
    nodes, log_node_weights = _mean_nodes(grid.centres, grid.wider)
    centres = centre[..., None] + deviation[..., None] * nodes
    log_likelihood, apart = likelihood.at(centres)
    # As points are evenly spaced in log τ, each stands for an interval as wide as τ.
    relative = scales / prior_scale[..., None]
    log_prior = np.log(relative) - np.log1p(relative**2)
    log_weights = log_likelihood + (log_prior + np.log(deviation))[..., None] + log_node_weights
    weights = np.exp(log_weights - log_weights.max(axis=(-2, -1), keepdims=True))
    return _Nodes(weights, centres, apart)


def _independent(
    locations: Sequence[FloatArray],
    deviations: Sequence[FloatArray],
    shares: Sequence[FloatArray],
    step: float,
) -> tuple[FloatArray, FloatArray]:
    """Return chances to be the largest of K independent variates, and losses, both (..., K).

    Each is a mixture of normal ones, of which locations, deviations and shares are given by kind,
    (..., K) each.

    The density of the largest is next to nothing at the first point and at the last, so the error
    of a sum over points that are evenly spaced in some u falls faster than any power of the step.
    At a distance from the first point only those variates matter whose deviation is at least a
    fifth of it. So points are at distances of sinh u: close together at first, and in proportion
    to the distance further on.
    """
    low = _first_point(locations, deviations, shares)
    highest = [
        np.where(share > _RARE, location + _REACH * deviation, -np.inf)
        for location, deviation, share in zip(locations, deviations, shares, strict=True)
    ]
    matter = [
        np.where(end > low[..., None], deviation, np.inf).min(axis=-1)
        for end, deviation in zip(highest, deviations, strict=True)
    ]
    unit = _REACH * np.minimum(*matter)[..., None]
    high = np.maximum(*(end.max(axis=-1) for end in highest))
    reach = np.arcsinh((high - low)[..., None] / unit)
    n_points = int(np.ceil(reach.max() / step))
    u = reach * (np.arange(n_points) + 0.5) / n_points
    points = low[..., None] + unit * np.sinh(u)
    below, density = np.zeros((2, *locations[0].shape, n_points))
    for location, deviation, share in zip(locations, deviations, shares, strict=True):
        z = (points[..., None, :] - location[..., None]) / deviation[..., None]
        below += share[..., None] * ndtr(z)
        z *= z
        z *= -0.5
        density += (share / deviation)[..., None] * np.exp(z, out=z)
    np.maximum(below, _SMALLEST, out=below)
    density /= below
    joint = below.prod(axis=-2) * np.cosh(u)
    expected = shares[0] * locations[0] + shares[1] * locations[1]
    leader = expected.max(axis=-1, keepdims=True)  # differences from it keep their digits
    chances = (density @ joint[..., None])[..., 0]
    total = chances.sum(axis=-1, keepdims=True)
    gain = (density @ (joint * (points - leader))[..., None])[..., 0].sum(axis=-1, keepdims=True)
    return chances / total, np.maximum(gain / total + (leader - expected), 0.0)


def _first_point(
    locations: Sequence[FloatArray], deviations: Sequence[FloatArray], shares: Sequence[FloatArray]
) -> FloatArray:
    """Return a point (...,) that the largest variate hardly ever lies before.

    Where m of them lie before it with a chance of at most p each, all do with one of p^m.
    """
    n_arms, best = locations[0].shape[-1], np.full(locations[0].shape[:-1], -np.inf)
    for m in _TOGETHER:
        if m > n_arms:
            break
        of_each = _BELOW ** (1 / m) / 2  # kind
        ends = [
            location + deviation * ndtri(of_each / np.maximum(share, of_each))
            for location, deviation, share in zip(locations, deviations, shares, strict=True)
        ]
        by_arm = np.minimum(*ends)
        best = np.maximum(best, np.partition(by_arm, n_arms - m, axis=-1)[..., n_arms - m])
    return best


@lru_cache(maxsize=8)
def _mean_nodes(n_nodes: int, wider: float) -> tuple[FloatArray, FloatArray]:
    """Return nodes of μ, in standard deviations, and the logarithms of what they weigh.

    That is the likelihood there, over the normal density that nodes are made for.
    """
    nodes, weights = hermite_e.hermegauss(n_nodes)
    return wider * nodes, np.log(weights) + nodes**2 / 2
