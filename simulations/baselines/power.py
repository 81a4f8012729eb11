"""How many recipients a test needs, and when it may stop early."""

from functools import cache
from math import ceil, sqrt
from typing import NamedTuple

from numpy.polynomial import legendre
from scipy.optimize import brentq
from scipy.stats import norm

_NODES, _WEIGHTS = legendre.leggauss(128)  # the walk's density is smooth: errors below 1e-10
_WIDEST = 20.0  # standard deviations; no boundary or drift that is looked for lies beyond


class Variances(NamedTuple):
    """Variances of one reward, of the control and of an arm that is better by the lift."""

    control: float
    arm: float


def rate_variances(rate: float, lift: float) -> Variances:
    """Return those of 0-or-1 rewards."""
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
    both = variances.control + variances.arm
    under_null = both if pooled is None else 2 * pooled
    spread = norm.isf(alpha / 2) * sqrt(under_null) + norm.ppf(power) * sqrt(both)
    return ceil((spread / lift) ** 2)


def staying_chance(barrier: float, drift: float, looks: int) -> float:
    """Return the chance that a walk of `looks` steps N(drift, 1) stays within ±barrier.

    By recursive integration of the walk's density (Armitage, McPherson and Rowe, 1969).
    """
    x, weights = barrier * _NODES, barrier * _WEIGHTS
    density = norm.pdf(x - drift)
    step = norm.pdf(x[:, None] - x[None, :] - drift)
    for _ in range(looks - 1):
        density = step @ (weights * density)
    return float(weights @ density)


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
    does not move.
    """
    barrier = brentq(lambda b: staying_chance(b, 0.0, looks) - (1 - alpha), 0.1, _WIDEST)
    drift = brentq(lambda d: staying_chance(barrier, d, looks) - (1 - power), 0.0, _WIDEST)
    return Design(float(barrier), float(drift))


def group_size(design: Design, variances: Variances, lift: float) -> int:
    """Return the recipients per arm between two looks."""
    return ceil((design.drift / lift) ** 2 * (variances.control + variances.arm))
