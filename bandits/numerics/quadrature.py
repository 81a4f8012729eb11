"""Chance that each of K independent quantities is the largest, by composite quadrature.

π_k = ∫ f_k(x) Π_{j≠k} F_j(x) dx. One interval with any number of nodes fails when wide and narrow
densities meet, so the line is cut into panels none of which is wide for *any* density: then each is
smooth in each panel. Densities are evaluated at Gauss–Legendre nodes, and their distribution
functions are the integrals, over the same panels, of the polynomials through those values. That
needs no incomplete beta function and is as exact: the error is below 1e-10.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
from numpy.polynomial import legendre
from scipy.special import ndtr

from bandits.array_types import FloatArray

_N_NODES = 8
_STEP = 1.0  # between edges, in standard deviations where the density is normal
_N_STEPS = 8  # on each side of the mode: tails beyond 8 standard deviations hold 1e-15
_STUDENT_FALL = 30.0  # a Student tail is cut where it holds about exp(-30)
_NEWTON_STEPS = 5  # towards panel edges, which need not be exact
_SMALLEST = 1e-300  # in place of a distribution function that rounded to 0 or below
_CHUNK = 1 << 17  # values evaluated at once, so that they stay in the processor's cache


def _cumulative_weights(nodes: FloatArray) -> FloatArray:
    """Weights (n, n) whose row i integrates from -1 to node i, given values at all nodes."""
    lagrange = np.linalg.inv(legendre.legvander(nodes, len(nodes) - 1))
    integrals = legendre.legint(lagrange, lbnd=-1)
    return cast("FloatArray", legendre.legval(nodes, integrals).T)


_ALIKE = 3.0  # the ratio of deviations up to which one interval is enough
_ALIKE_REACH = 6.0  # deviations around every mean
_ALIKE_NODES, _ALIKE_WEIGHTS = legendre.leggauss(48)
_SURE = 1e-100  # a deviation in place of 0
_NODES, _WEIGHTS = legendre.leggauss(_N_NODES)
_CUMULATIVE = _cumulative_weights(_NODES)


def largest_chances(edges: FloatArray, densities: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return (R, K): the chance that each arm's quantity is the largest.

    Args:
        edges: (R, K, e) ascending; between two edges of an arm its density is smooth, and beyond
            them negligible.
        densities: from points (R, 1, P, n) to each arm's density there, (R, K, P, n), up to a
            factor per arm.
    """
    return chances_and_totals(edges, densities)[0]


def chances_and_totals(
    edges: FloatArray, densities: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Return `largest_chances`, and the integral of each density, (R, K)."""
    edges = common_edges(edges)
    half = np.diff(edges)[:, None, :, None] / 2
    points = edges[:, None, :-1, None] + half * (1 + _NODES)
    density = densities(points) * half
    mass = density @ _WEIGHTS
    below = np.cumsum(mass, axis=-1)
    total = below[..., -1]
    distribution = (below - mass)[..., None] + density @ _CUMULATIVE.T
    distribution /= total[..., None, None]
    np.maximum(distribution, _SMALLEST, out=distribution)
    density /= distribution
    joint = distribution.prod(axis=1) * _WEIGHTS
    chances = np.einsum("rkpn,rpn->rk", density, joint) / total
    return chances / chances.sum(axis=-1, keepdims=True), total


def common_edges(edges: FloatArray) -> FloatArray:
    """Cut the line so that no panel is wider, for any arm, than one between its own edges.

    Taking every arm's edges would do that with far too many panels where arms are alike. Here each
    panel holds the same number, at most 1, of panels of whichever arm has most of them there.

    Args:
        edges: (R, K, e) ascending.

    Returns:
        (R, P + 1) ascending.
    """
    n_states, n_arms, n_edges = edges.shape
    n_places = n_arms * n_edges
    flat = edges.reshape(n_states, n_places)
    order = flat.argsort(axis=-1, kind="stable")
    places = np.take_along_axis(flat, order, axis=-1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(n_places)[None], axis=-1)
    # From each of its own edges to its next, an arm has the width of that panel at every place.
    lasting = np.diff(ranks.reshape(edges.shape), axis=-1, prepend=0, append=n_places)
    width = np.diff(edges, axis=-1, prepend=-np.inf, append=np.inf)
    everywhere = np.repeat(width.ravel(), lasting.ravel()).reshape(n_states, n_arms, n_places)
    narrowest = everywhere.min(axis=1)[:, :-1]
    demand = np.cumsum(np.diff(places) / narrowest, axis=-1)
    n_panels = int(np.ceil(demand[:, -1].max()))
    rows = np.arange(n_states)[:, None] * (n_panels + 1.0)
    demand = np.concatenate([rows, rows + demand], axis=-1)
    levels = rows + (demand[:, -1:] - rows) * np.linspace(0, 1, n_panels + 1)
    return np.interp(levels.ravel(), demand.ravel(), places.ravel()).reshape(n_states, -1)


def beta_chances(alpha: FloatArray, beta: FloatArray, reach: int = _N_STEPS) -> FloatArray:
    """Return the chance (..., K) that each Beta(alpha, beta) variate, (..., K), is the largest.

    Args:
        alpha: (..., K).
        beta: (..., K).
        reach: standard deviations into the tails; 8 gives every chance to 1e-10, and more
            gives small chances to a few digits, down to about exp(-reach²).
    """
    return _in_chunks(partial(_beta_chances, reach=reach), alpha, beta)


def student_chances(dof: FloatArray, location: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the chance (..., K) that each Student variate is the largest; arguments (..., K).

    Args:
        dof: degrees of freedom, at least 1.
        location: the centre.
        scale: above 0; the standard deviation only where dof is infinite.
    """
    return _in_chunks(_student_chances, dof, location, scale)


def normal_chances(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Return the chance (..., K) that each N(mean, deviation²) variate, (..., K), is the largest.

    Rows whose deviations are alike, as they mostly are, need one interval only.
    """
    shape = np.broadcast_shapes(mean.shape, deviation.shape)
    means = np.broadcast_to(mean, shape).reshape(-1, shape[-1])
    # A deviation of 0 (a context of zeros) is replaced by a tiny one.
    deviations = np.maximum(np.broadcast_to(deviation, shape), _SURE).reshape(-1, shape[-1])
    alike = deviations.max(axis=-1) <= _ALIKE * deviations.min(axis=-1)
    out = np.empty(means.shape)
    out[alike] = _in_chunks(_alike_normal_chances, means[alike], deviations[alike])
    out[~alike] = _in_chunks(_normal_chances, means[~alike], deviations[~alike])
    return out.reshape(shape)


def _in_chunks(chances: Callable[..., FloatArray], *parameters: FloatArray) -> FloatArray:
    """Flatten leading axes and go through them in chunks."""
    shape = parameters[0].shape
    flat = [p.reshape(-1, shape[-1]) for p in parameters]
    size = max(1, _CHUNK // (shape[-1] * (shape[-1] + _N_NODES) * 2 * _N_STEPS))
    if not flat[0].size:
        return np.empty(shape)
    chunks = [chances(*(p[i : i + size] for p in flat)) for i in range(0, len(flat[0]), size)]
    return np.concatenate(chunks).reshape(shape)


def _beta_chances(alpha: FloatArray, beta: FloatArray, reach: int) -> FloatArray:
    """Integrate over y = logit x, where a beta density is log-concave and its tails exponential."""
    edges = beta_edges(alpha, beta, reach)
    alpha, beta = alpha[:, :, None, None], beta[:, :, None, None]
    count = alpha + beta
    mode = np.log(alpha / beta)

    def densities(y: FloatArray) -> FloatArray:
        offset = y - mode
        slope = np.where(offset < 0, alpha, beta)
        return np.exp(_log_density(np.abs(offset), slope, count))

    return largest_chances(edges, densities)


def beta_edges(
    alpha: FloatArray, beta: FloatArray, reach: int = _N_STEPS, step: float = _STEP
) -> FloatArray:
    """Return edges (..., 2 reach + 1) of panels for log odds of Beta(alpha, beta) variates."""
    alpha, beta = alpha[..., None], beta[..., None]
    count = alpha + beta
    mode = np.log(alpha / beta)
    steps = np.linspace(step, step * reach, reach)
    left = mode - _distance_of(steps, alpha, count)
    right = mode + _distance_of(steps, beta, count)
    return np.concatenate([left[..., ::-1], mode, right], axis=-1)


def _student_chances(dof: FloatArray, location: FloatArray, scale: FloatArray) -> FloatArray:
    """Integrate with panels as wide as a normal's near the centre, growing evenly in the tails.

    A tail falls like |z|^-dof: with 2 degrees of freedom it is cut at 10⁶ scales from the centre.
    Edges evenly spaced in u, z = √dof sinh(u/√dof), reach that in few panels, and in each a power
    is as smooth as in any other.
    """
    dof, location, scale = dof[:, :, None], location[:, :, None], scale[:, :, None]
    root = np.sqrt(dof)
    reach = root * np.arcsinh(np.sqrt(np.expm1(2 * _STUDENT_FALL / dof)))
    n_steps = int(np.ceil(reach.max() / _STEP))
    u = reach * np.linspace(-1, 1, 2 * n_steps + 1)
    edges = location + scale * root * np.sinh(u / root)

    def densities(x: FloatArray) -> FloatArray:
        z = (x - location[..., None]) / scale[..., None]
        exponent = (dof[..., None] + 1) / 2
        return np.exp(-exponent * np.log1p(z * z / dof[..., None])) / scale[..., None]

    return largest_chances(edges, densities)


def _normal_chances(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    steps = _STEP * np.arange(-_N_STEPS, _N_STEPS + 1)
    edges = mean[..., None] + deviation[..., None] * steps

    def densities(x: FloatArray) -> FloatArray:
        z = (x - mean[..., None, None]) / deviation[..., None, None]
        return np.exp(-z * z / 2) / deviation[..., None, None]

    return largest_chances(edges, densities)


def _alike_normal_chances(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Integrate over the one interval where the largest lies: exact to 2e-8 for like deviations."""
    low = (mean - _ALIKE_REACH * deviation).max(axis=-1)[:, None, None]
    high = (mean + _ALIKE_REACH * deviation).max(axis=-1)[:, None, None]
    x = low + (high - low) * (1 + _ALIKE_NODES) / 2
    z = (x - mean[..., None]) / deviation[..., None]
    distribution = np.maximum(ndtr(z), _SMALLEST)
    joint = distribution.prod(axis=1, keepdims=True) * _ALIKE_WEIGHTS
    z *= z
    chances = (np.exp(z / -2) / distribution * joint).sum(axis=-1) / deviation
    return cast("FloatArray", chances / chances.sum(axis=-1, keepdims=True))


def _log_density(distance: FloatArray, slope: FloatArray, count: FloatArray) -> FloatArray:
    """Log density of the logit of a beta variate, relative to its mode, at a distance from it.

    With a = slope and n = count: -a s - n log(1 + a/n (exp(-s) - 1)), where a is alpha on the left
    of the mode and beta on its right. Written so, it neither overflows nor cancels at any count.
    """
    return -slope * distance - count * np.log1p(slope / count * np.expm1(-distance))


def _distance_of(steps: FloatArray, slope: FloatArray, count: FloatArray) -> FloatArray:
    """Find the distance at which the log density has fallen by steps²/2, by Newton's method.

    The log density is concave: from the second step on, Newton's method comes down monotonically.
    """
    fall = steps**2 / 2
    distance = np.sqrt(2 * fall * count / (slope * (count - slope))) + fall / slope
    for _ in range(_NEWTON_STEPS):
        shrunk = np.expm1(-distance)
        steepness = slope * (1 - (1 + shrunk) / (1 + slope / count * shrunk))
        distance += (_log_density(distance, slope, count) + fall) / steepness
    return distance
