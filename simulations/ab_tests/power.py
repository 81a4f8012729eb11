"""Size of an A/B test by its power, and the O'Brien-Fleming boundaries of a sequential one."""

from functools import cache
from math import ceil, log, sqrt
from typing import NamedTuple

from numpy.polynomial import legendre
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from bandits.array_types import FloatArray

_FEWEST_NODES, _NODES_PER_DEVIATION = 128, 5  # the walk's density is smooth: errors below 1e-10
_LARGEST = 1e15  # recipients an arm: more than there are, and a whole number
_WIDER = 1.01  # for brackets whose ends may be the answer, but for rounding


class Variances(NamedTuple):
    """Variances of one reward, of the control and of an arm that is better by the lift."""

    control: float
    arm: float


def rate_variances(rate: float, lift: float) -> Variances:
    """Return the variances of 0-or-1 rewards."""
    better = rate + lift
    return Variances(rate * (1 - rate), better * (1 - better))


def fixed_size(
    variances: Variances, lift: float, alpha: float, power: float, pooled: float | None = None
) -> int:
    """Return the recipients per arm of a two-sided z test with this level and power.

    n = ((z_{1−α/2} √(2 pooled) + z_power √(v_control + v_arm)) / lift)², as Fleiss, Levin and Paik
    (2003), equation 4.14, without continuity correction; for values, with the variances as they
    are, it is the large-sample size of Welch's test.

    Args:
        variances: of one reward.
        lift: the difference that must be found.
        alpha: level, two-sided.
        power: chance to find it.
        pooled: variance of one reward if there is no difference; by default the mean of both.
    """
    total = variances.control + variances.arm
    under_null = total if pooled is None else 2 * pooled
    spread = norm.isf(alpha / 2) * sqrt(under_null) + norm.ppf(power) * sqrt(total)
    return _recipients(spread / lift)


def _recipients(root: float) -> int:
    """Return the square, rounded up: at least one, and no more than a float holds exactly."""
    return max(1, ceil(min(root, sqrt(_LARGEST)) ** 2))


def staying_chance(barrier: float, drift: float, looks: int) -> float:
    """Return the chance that a walk of `looks` steps N(drift, 1) stays within ±barrier.

    By recursive integration of the walk's density (Armitage, McPherson and Rowe, 1969).
    """
    density, weights, step = _walk(barrier, drift)
    for _ in range(looks - 1):
        density = step @ (weights * density)
    return float(weights @ density)


def crossing_chance(barrier: float, looks: int) -> float:
    """Return the chance that a walk without drift leaves ±barrier, with all digits if it is tiny.

    As `staying_chance`; the chances to leave are summed step by step, so nothing is subtracted
    from 1.
    """
    density, weights, step = _walk(barrier, 0.0)
    x = barrier * _nodes(barrier)[0]
    leaving = ndtr(x - barrier) + ndtr(-x - barrier)
    crossed = 2 * float(ndtr(-barrier))
    for _ in range(looks - 1):
        crossed += float(weights @ (density * leaving))
        density = step @ (weights * density)
    return crossed


def _walk(barrier: float, drift: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the first step's density at nodes within ±barrier, their weights, and the kernel."""
    nodes, weights = _nodes(barrier)
    x = barrier * nodes
    step = norm.pdf(x[:, None] - x[None, :] - drift)
    return norm.pdf(x - drift), barrier * weights, step


@cache
def _leggauss(n: int) -> tuple[FloatArray, FloatArray]:
    return legendre.leggauss(n)


def _nodes(barrier: float) -> tuple[FloatArray, FloatArray]:
    return _leggauss(max(_FEWEST_NODES, ceil(_NODES_PER_DEVIATION * barrier)))


class Design(NamedTuple):
    """A group-sequential design.

    Attributes:
        barrier: stop at look k of J where z reaches barrier / √k.
        drift: the mean of z/√k that the power is for.
    """

    barrier: float
    drift: float


@cache
def obrien_fleming(looks: int, alpha: float, power: float) -> Design:
    """Find O'Brien and Fleming's (1979) two-sided boundary, and the drift that meets the power.

    With z_k = S_k / √k and a boundary C √(J/k), the walk S_k must stay within ±C √J: a barrier that
    does not move. The last step alone leaves with chance 2 Φ(−b/√J), and all steps together with at
    most twice that (Lévy's inequality): b lies between z_{1−α/2} √J and z_{1−α/4} √J.
    """
    root, goal = sqrt(looks), log(alpha)
    low, high = norm.isf(alpha / 2) * root / _WIDER, norm.isf(alpha / 4) * root * _WIDER
    barrier = brentq(lambda b: log(crossing_chance(b, looks)) - goal, low, high)
    farthest = _WIDER * (barrier + norm.ppf(power) * root) / looks
    drift = brentq(lambda d: staying_chance(barrier, d, looks) - (1 - power), 0.0, farthest)
    return Design(float(barrier), float(drift))


def group_size(design: Design, variances: Variances, lift: float) -> int:
    """Return the recipients per arm between two looks."""
    return _recipients(design.drift / lift * sqrt(variances.control + variances.arm))
