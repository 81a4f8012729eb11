"""Chance of each arm to be the best, and expected loss of sending only it: Bayes numbers.

With posteriors θ_k, the chance to be best is P(θ_k = max θ), and the expected loss of sending only
arm k is E[max θ] − E[θ_k] (Stucchio, 2015, "Bayesian A/B testing at VWO", section on the loss
function). Both are computed, not drawn.

**The prior is learned from the arms** (empirical Bayes; Gelman, 2006, "Prior distributions for
variance parameters in hierarchical models", sections 2 and 5): θ_k ~ N(μ, τ²), and the mean reward
m_k that arm k has shown is θ_k but for noise of variance v_k. A flat prior for each arm, as Beta(1,
1) is, takes the luckiest of many arms for as good as it looks. Here it is drawn towards the others
by as much as these differ. Given τ, μ has the mean Σ w m / Σ w and the variance 1 / Σ w, with
w_k = 1 / (v_k + τ²); a mean weighted by sends would be that of the arm that is sent most. Neither
is known, so the answers are mixed: over τ by its marginal likelihood times its prior, over μ by
three nodes that are exact for polynomials of the fifth degree. Given both, arms are independent.

**The prior of τ** is half of a Cauchy distribution. Its scale is the noise of a typical arm or, if
that is less, the geometric mean of this noise and an eightieth of what an email earns: variants of
an email differ by some per cent of that, rarely by as much as noise is after few sends, and the
tail leaves room for those that do. It has no unit, so results in another currency are the same.

How the data were collected needs no correction: given what has been seen, the likelihood of the
arms' means is the same whatever rule chose the next arm.
"""

from functools import lru_cache

import numpy as np
from msgspec import Struct
from numpy.polynomial import hermite_e, legendre
from scipy.special import ndtr

from bandits.array_types import FloatArray

WARNING = (
    "Chances to be best take rates as constant, and judge each version in the light of the others. "
    "They can look high by luck: where two versions do not differ at all, one reaches a chance of "
    "95 % in up to one test of ten, if you look a hundred times. Do not stop on a chance alone. "
    "Intervals hold however often you look."
)

_RELATIVE = 1 / 80  # a small difference between arms, relative to what an email earns
_N_SCALES = 32  # values of τ,
_LEAST, _MOST = 0.02, 10.0  # from this part of the prior's scale to this multiple of differences
_NEGLIGIBLE = 1e-3  # weight of a τ relative to the likeliest, below which it is left out
_REACH = 6.0  # standard deviations beyond which a normal density is nothing
_DENSE = 28  # nodes for an interval that is as long as all deviations are alike
_SMALLEST = 1e-300  # in place of a distribution function that rounded to 0
_MEAN_NODES, _MEAN_WEIGHTS = hermite_e.hermegauss(3)
_MEAN_WEIGHTS = _MEAN_WEIGHTS / _MEAN_WEIGHTS.sum()


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
    scales, weights = _mix_scales(means, variances, earned)
    shrinkage = scales[..., None] ** 2 / (variances[..., None, :] + scales[..., None] ** 2)
    centre, deviation = _common_mean(means, variances, scales)
    centres = centre[..., None] + deviation[..., None] * _MEAN_NODES
    drawn = shrinkage[..., None, :]
    locations = drawn * means[..., None, None, :] + (1 - drawn) * centres[..., None]
    deviations = np.sqrt(drawn * variances[..., None, None, :])
    chances, losses = _independent(locations, np.broadcast_to(deviations, locations.shape))
    mixed = (weights[..., None] * _MEAN_WEIGHTS)[..., None]
    losses = (losses * mixed).sum(axis=(-3, -2))
    chances = (chances * mixed).sum(axis=(-3, -2))
    return BestArmEstimate(np.minimum(chances, 1.0), losses)  # not above it by rounding


def _mix_scales(
    means: FloatArray, variances: FloatArray, earned: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return values of τ and their posterior weights, both (..., T)."""
    noise = np.sqrt(1.0 / np.mean(1.0 / variances, axis=-1))
    expected = np.where(earned > 0, np.sqrt(noise * _RELATIVE * earned), noise)
    typical = np.minimum(noise, expected)
    largest = _MOST * np.maximum(np.ptp(means, axis=-1), noise)
    scales = np.geomspace(_LEAST * typical, largest, _N_SCALES, axis=-1)
    total = variances[..., None, :] + scales[..., None] ** 2
    centre, deviation = _common_mean(means, variances, scales)
    squares = ((means[..., None, :] - centre[..., None]) ** 2 / total).sum(axis=-1)
    # As points are evenly spaced in log τ, each stands for an interval as wide as τ.
    relative = scales / typical[..., None]
    log_prior = np.log(relative) - np.log1p(relative**2)
    log_weights = log_prior + np.log(deviation) - np.log(total).sum(axis=-1) / 2 - squares / 2
    weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    kept = (weights > _NEGLIGIBLE).reshape(-1, _N_SCALES).any(axis=0)
    scales, weights = scales[..., kept], weights[..., kept]
    return scales, weights / weights.sum(axis=-1, keepdims=True)


def _common_mean(
    means: FloatArray, variances: FloatArray, scales: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of μ for each τ of `scales` (..., T)."""
    precisions = 1.0 / (variances[..., None, :] + scales[..., None] ** 2)
    total = precisions.sum(axis=-1)
    return (precisions * means[..., None, :]).sum(axis=-1) / total, 1.0 / np.sqrt(total)


def _independent(locations: FloatArray, deviations: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return chances to be the largest of independent normal variates, and losses, both (..., K).

    All of the largest lies above l = max(location − 6 deviations). At a distance from l, only arms
    matter whose deviation is at least a twelfth of it. So nodes are evenly dense in u where the
    distance is 12 s sinh u, with s the smallest deviation that matters: close together near l, and
    in proportion to the distance further on.
    """
    low = (locations - _REACH * deviations).max(axis=-1, keepdims=True)
    highest = locations + _REACH * deviations
    unit = np.where(highest > low, deviations, np.inf).min(axis=-1, keepdims=True) * 2 * _REACH
    reach = np.arcsinh((highest.max(axis=-1, keepdims=True) - low) / unit)
    nodes, weights = _legendre(int(np.ceil(_DENSE * reach.max() / np.arcsinh(1.0))))
    u = reach * (1 + nodes) / 2
    points = low + unit * np.sinh(u)
    z = (points[..., None, :] - locations[..., None]) / deviations[..., None]
    below = np.maximum(ndtr(z), _SMALLEST)
    joint = below.prod(axis=-2) * weights * reach * unit * np.cosh(u)
    z *= z
    z *= -0.5
    largest = np.exp(z, out=z) / below * (joint[..., None, :] / deviations[..., None])
    chances = largest.sum(axis=-1)
    total = chances.sum(axis=-1, keepdims=True)
    leader = locations.max(axis=-1, keepdims=True)  # differences from it keep their digits
    gain = (largest.sum(axis=-2) * (points - leader)).sum(axis=-1, keepdims=True) / total
    return chances / total, np.maximum(gain + (leader - locations), 0.0)


@lru_cache(maxsize=64)
def _legendre(n_nodes: int) -> tuple[FloatArray, FloatArray]:
    """Return Gauss–Legendre nodes and weights on [-1, 1]."""
    return legendre.leggauss(n_nodes)
