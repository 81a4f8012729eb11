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

from functools import lru_cache

import numpy as np
from msgspec import Struct
from numpy.polynomial import hermite_e, legendre
from scipy.special import ndtr

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
_KINDS = np.array([1.0, _FURTHER])  # of arms: their deviations in units of τ,
_SHARES = np.array([1.0 - _APART, _APART])  # and how many are of each
_N_WIDE, _N_SCALES = 24, 12  # values of τ, first over all, then where they count,
_LEAST, _MOST = 0.02, 10.0  # from this part of the prior's scale to this multiple of differences
_NEGLIGIBLE = 1e-3  # weight of τ and μ relative to the likeliest, below which they are left out
_ROUNDS = 6  # towards the common mean, from the median on
_REACH = 6.0  # standard deviations beyond which a normal density is nothing
_DENSE = 28  # nodes for an interval that is as long as all deviations are alike
_SMALLEST = 1e-300  # in place of a distribution function that rounded to 0
_WIDER = 1.5  # by how much nodes of μ are further out than for a normal distribution
_FEW_ARMS = 12  # up to which μ needs more nodes, since one arm's kind moves it


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
    means: FloatArray, variances: FloatArray, earned: FloatArray
) -> BestArmEstimate:
    """Judge arms by the mean rewards that they have shown.

    Args:
        means: (..., K), of which the largest is the best.
        variances: (..., K) above 0, of these means around the true ones.
        earned: (...) what an email earns, at least 0: the size of its mean reward.
    """
    prior_scale, scales = _wide_scales(means, variances, earned)
    coarse = _weigh(means, variances, scales, prior_scale)[0].sum(axis=-1)
    scales = _narrowed(scales, coarse > _NEGLIGIBLE * coarse.max(axis=-1, keepdims=True))
    weights, centres, total, kinds = _weigh(means, variances, scales, prior_scale)
    weights = _flat(weights, 0)
    kept = (weights > _NEGLIGIBLE).reshape(-1, weights.shape[-1]).any(axis=0)
    weights = weights[..., kept]
    weights = weights / weights.sum(axis=-1, keepdims=True)
    spreads = scales[..., None, None] ** 2 * _KINDS**2
    drawn = np.broadcast_to((spreads / total)[..., None, :, :], kinds.shape)
    drawn, kinds = (_flat(a, 2)[..., kept, :, :] for a in (drawn, kinds))
    centres = _flat(centres, 0)[..., kept, None, None]
    locations = drawn * means[..., None, :, None] + (1 - drawn) * centres
    deviations = np.sqrt(drawn * variances[..., None, :, None])
    chances, losses = _independent(locations, deviations, kinds)
    losses = (losses * weights[..., None]).sum(axis=-2)
    chances = (chances * weights[..., None]).sum(axis=-2)
    return BestArmEstimate(np.minimum(chances, 1.0), losses)  # not above it by rounding


def _flat(array: FloatArray, after: int) -> FloatArray:
    """Make one axis of those of τ and μ, which so many others come after."""
    lead, rest = array.shape[: array.ndim - 2 - after], array.shape[array.ndim - after :]
    return array.reshape(*lead, -1, *rest)


def _wide_scales(
    means: FloatArray, variances: FloatArray, earned: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the scale of τ's prior (...,), and values of τ (..., T) that leave out none."""
    noise = np.sqrt(1.0 / np.mean(1.0 / variances, axis=-1))
    typical = np.where(earned > 0, np.minimum(noise, _RELATIVE * earned), noise)
    largest = _MOST * np.maximum(np.ptp(means, axis=-1), noise)
    return typical, np.geomspace(_LEAST * typical, largest, _N_WIDE, axis=-1)


def _narrowed(scales: FloatArray, kept: BoolArray) -> FloatArray:
    """Return as many values of τ as are enough, from one before the kept (..., T) to one after."""
    place = np.arange(_N_WIDE)
    first = np.where(kept, place, _N_WIDE).min(axis=-1, keepdims=True)
    last = np.where(kept, place, 0).max(axis=-1, keepdims=True)
    ends = [np.maximum(first - 1, 0), np.minimum(last + 1, _N_WIDE - 1)]
    low, high = (np.take_along_axis(scales, end, axis=-1)[..., 0] for end in ends)
    return np.geomspace(low, high, _N_SCALES, axis=-1)


def _weigh(
    means: FloatArray, variances: FloatArray, scales: FloatArray, prior_scale: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Weigh values of τ (..., T), with M of μ for each, by prior and likelihood.

    Returns:
        Weights (..., T, M) up to a factor; the values of μ, likewise; variances of the means around
        μ, by kind, (..., T, K, J); and the chances of each arm's kind, (..., T, M, K, J).
    """
    total = variances[..., None, :, None] + scales[..., None, None] ** 2 * _KINDS**2
    centre, deviation = _common_mean(means, total)
    nodes, log_node_weights = _mean_nodes(7 if means.shape[-1] <= _FEW_ARMS else 3)
    centres = centre[..., None] + deviation[..., None] * nodes
    log_likelihood, kinds = _kinds_of_arms(means, total, centres)
    # As points are evenly spaced in log τ, each stands for an interval as wide as τ.
    relative = scales / prior_scale[..., None]
    log_prior = np.log(relative) - np.log1p(relative**2)
    log_weights = log_likelihood + (log_prior + np.log(deviation))[..., None] + log_node_weights
    weights = np.exp(log_weights - log_weights.max(axis=(-2, -1), keepdims=True))
    return weights, centres, total, kinds


def _common_mean(means: FloatArray, total: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of μ for each τ, both (..., T).

    It is where the likelihood of the means (..., K) is largest, given that they are around μ with
    variances (..., T, K, J) by kind (Dempster, Laird and Rubin, 1977).
    """
    around = means[..., None, :, None]
    centre = np.broadcast_to(np.median(means, axis=-1)[..., None], total.shape[:-2])
    for _ in range(_ROUNDS):
        _, kinds = _kinds_of_arms(means, total, centre[..., None])
        precisions = kinds[..., 0, :, :] / total
        information = precisions.sum(axis=(-2, -1))
        centre = (precisions * around).sum(axis=(-2, -1)) / information
    return centre, 1.0 / np.sqrt(information)


def _kinds_of_arms(
    means: FloatArray, total: FloatArray, centres: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the log-likelihood of means (..., K) around μ, and the chances of each arm's kind.

    Args:
        means: (..., K).
        total: (..., T, K, J) their variances around μ, by kind.
        centres: (..., T, M) values of μ.

    Returns:
        (..., T, M), and (..., T, M, K, J), whose last axis sums to 1.
    """
    variances = total[..., None, :, :]
    squares = (means[..., None, None, :, None] - centres[..., None, None]) ** 2 / variances
    logs = np.log(_SHARES) - (np.log(variances) + squares) / 2
    largest = logs.max(axis=-1, keepdims=True)
    parts = np.exp(logs - largest)
    every = parts.sum(axis=-1, keepdims=True)
    return (largest + np.log(every))[..., 0].sum(axis=-1), parts / every


def _independent(
    locations: FloatArray, deviations: FloatArray, kinds: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return chances to be the largest of K independent variates, and losses, both (..., K).

    Each is a mixture of J normal ones, (..., K, J): their locations, deviations and weights.

    All of the largest lies above l, the largest over arms of the least location − 6 deviations. At
    a distance from l, only those matter whose deviation is at least a twelfth of it. So nodes are
    evenly dense in u where the distance is 12 s sinh u, with s the smallest deviation that matters:
    close together near l, and in proportion to the distance further on.
    """
    low = (locations - _REACH * deviations).min(axis=-1).max(axis=-1)[..., None]
    highest = locations + _REACH * deviations
    matter = np.where(highest > low[..., None], deviations, np.inf)
    unit = matter.min(axis=(-2, -1))[..., None] * 2 * _REACH
    reach = np.arcsinh((highest.max(axis=(-2, -1))[..., None] - low) / unit)
    nodes, weights = _legendre(int(np.ceil(_DENSE * reach.max() / np.arcsinh(1.0))))
    u = reach * (1 + nodes) / 2
    points = low + unit * np.sinh(u)
    z = (points[..., None, None, :] - locations[..., None]) / deviations[..., None]
    below = np.maximum((kinds[..., None] * ndtr(z)).sum(axis=-2), _SMALLEST)
    joint = below.prod(axis=-2) * weights * reach * unit * np.cosh(u)
    z *= z
    z *= -0.5
    density = ((kinds / deviations)[..., None] * np.exp(z, out=z)).sum(axis=-2)
    largest = density / below * joint[..., None, :]
    chances = largest.sum(axis=-1)
    total = chances.sum(axis=-1, keepdims=True)
    expected = (kinds * locations).sum(axis=-1)
    leader = expected.max(axis=-1, keepdims=True)  # differences from it keep their digits
    gain = (largest.sum(axis=-2) * (points - leader)).sum(axis=-1, keepdims=True) / total
    return chances / total, np.maximum(gain + (leader - expected), 0.0)


@lru_cache(maxsize=2)
def _mean_nodes(n_nodes: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes of μ, in standard deviations, and the logarithms of what they weigh.

    That is the likelihood there, over the normal density that nodes are made for.
    """
    nodes, weights = hermite_e.hermegauss(n_nodes)
    return _WIDER * nodes, np.log(weights) + nodes**2 / 2


@lru_cache(maxsize=64)
def _legendre(n_nodes: int) -> tuple[FloatArray, FloatArray]:
    """Return Gauss–Legendre nodes and weights on [-1, 1]."""
    return legendre.leggauss(n_nodes)
