"""Chance of each arm to be the best, and expected loss of sending only it: Bayes numbers.

With posteriors θ_k, the chance to be best is P(θ_k = max θ), and the expected loss of sending only
arm k is E[max θ] − E[θ_k] (Stucchio, 2015, "Bayesian A/B testing at VWO", section on the loss
function). Both are computed, not drawn.
"""

import numpy as np
from msgspec import Struct
from numpy.polynomial import legendre
from scipy.special import ndtr, stdtr, stdtrit

from bandits.array_types import FloatArray
from bandits.numerics.quadrature import beta_chances, common_edges, student_chances

WARNING = (
    "Chances to be best take rates as constant, and are right on average where rates are such as "
    "was assumed beforehand. They are no proof: between two variants that do not differ at all, "
    "whoever looks a hundred times for a chance of 95 % finds a winner in more than half of all "
    "tests. Intervals hold however often you look."
)

_NODES, _WEIGHTS = legendre.leggauss(8)
_STEPS = np.arange(-8.0, 8.5, 0.5)  # panel edges, in normal deviations


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


def beta_best_arm(alpha: FloatArray, beta: FloatArray) -> BestArmEstimate:
    """Judge arms whose rates have Beta(alpha, beta) posteriors, both (..., K).

    The expected maximum of quantities in [0, 1] is 1 − ∫ Π F_k, and ∫ Π F_k is the chance that one
    more arm with a uniform distribution is the best.
    """
    ones = np.ones((*alpha.shape[:-1], 1))
    joined = beta_chances(np.append(alpha, ones, -1), np.append(beta, ones, -1))
    highest = 1.0 - joined[..., -1:]
    losses = np.maximum(highest - alpha / (alpha + beta), 0.0)
    return BestArmEstimate(beta_chances(alpha, beta), losses)


def student_best_arm(dof: FloatArray, location: FloatArray, scale: FloatArray) -> BestArmEstimate:
    """Judge arms whose means have Student posteriors, as under a normal-inverse-gamma prior.

    A Gaussian posterior is one with many degrees of freedom.

    Args:
        dof: (..., K) above 1.
        location: (..., K).
        scale: (..., K) above 0.
    """
    highest = _expected_maximum(*(a.reshape(-1, a.shape[-1]) for a in (dof, location, scale)))
    losses = np.maximum(highest.reshape(*location.shape[:-1], 1) - location, 0.0)
    return BestArmEstimate(student_chances(dof, location, scale), losses)


def _expected_maximum(dof: FloatArray, location: FloatArray, scale: FloatArray) -> FloatArray:
    """Return E[max] = h − ∫ Π F, over [l, h] with all of the densities; arguments (R, K)."""
    dof, location, scale = (a[:, :, None] for a in (dof, location, scale))
    steps = np.abs(stdtrit(dof, ndtr(-np.abs(_STEPS)))) * np.sign(_STEPS)
    edges = common_edges(location + scale * steps)
    half = np.diff(edges)[..., None] / 2
    points = (edges[:, :-1, None] + half * (1 + _NODES)).reshape(len(edges), 1, -1)
    below = stdtr(dof, (points - location) / scale).prod(axis=1)
    integral = below * (half * _WEIGHTS).reshape(len(edges), -1)
    return edges[:, -1] - integral.sum(axis=-1)
