"""Intervals for rates that hold at every look, whatever the allocation and whenever one stops.

For one arm, with s = Σ r over n decisions, the likelihood ratio of a uniform mixture of rates to
the rate p is E(p) = B(1 + s, 1 + n − s) / (p^s (1 − p)^(n − s)), B the beta function (Robbins,
1970, "Statistical methods related to the law of the iterated logarithm", the binomial example;
Howard, Ramdas, McAuliffe and Sekhon, 2021, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", proposition 7, the two-sided beta-binomial mixture, with a uniform one here). While the
arm's rate is p and decisions are independent given the past, E(p) is a non-negative martingale
that starts at 1, so by Ville's inequality (1939) it ever reaches 1/α with probability at most α:
{ p : E(p) < 1/α } contains the rate at all times at once. A reward inside [0, 1] only lowers its
mean, by convexity of r ↦ a^r b^(1 − r), so the interval is then conservative.

Everything is computed from log E(p) = log E(s/n) + n kl(s/n, p), where kl is the divergence of
Bernoulli distributions: neither part cancels or overflows at any count.
"""

import numpy as np
from scipy.special import gammaln

from bandits.array_types import FloatArray

_STIRLING_FROM = 16.0  # from here on four terms of Stirling's series are exact to rounding
_NEWTON_STEPS = 60  # at most; about six are taken
_CLOSE = 1e-7  # the last step, whose error is about the square of it
_LARGEST_LOG = 300.0  # keeps squares of a multiplier finite; rates there are 0 to rounding
_TINY = 1e-100  # stands for 0 where one divides, and the quotient is not used


def log_mixture_ratio(successes: FloatArray, trials: FloatArray, rate: FloatArray) -> FloatArray:
    """Return log E(rate): the evidence, in nats, against each rate; arguments broadcast.

    Args:
        successes: Σ r, in [0, trials].
        trials: n.
        rate: in [0, 1].
    """
    n = np.asarray(trials, dtype=np.float64)
    s = np.clip(successes, 0.0, n)
    return _at_mean(s, n) + _surprise(s, n, rate) + _surprise(n - s, n, 1.0 - rate)


def rate_bounds(
    successes: FloatArray, trials: FloatArray, alpha: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Return low and high of the confidence sequence { p : E(p) < 1/α }; arguments broadcast.

    Args:
        successes: Σ r, in [0, trials]; sums that rounding has left outside are clipped.
        trials: n; without any the interval is [0, 1].
        alpha: the probability that it ever misses the rate, at most.
    """
    n = np.asarray(trials, dtype=np.float64)
    s, n, alpha = np.broadcast_arrays(np.clip(successes, 0.0, n), n, alpha)
    budget = -np.log(alpha) - _at_mean(s, n)
    return _lowest_rate(s, n, budget), 1.0 - _lowest_rate(n - s, n, budget)


def lift_bounds(
    control_successes: FloatArray,
    control_trials: FloatArray,
    successes: FloatArray,
    trials: FloatArray,
    alpha: FloatArray | float,
) -> tuple[FloatArray, FloatArray]:
    """Return low and high of { δ : min over p of E_control(p) E_arm(p + δ) < 1/α }.

    The product of the two ratios is a martingale too, since each decision moves one factor only; at
    the two rates it ever reaches 1/α with probability at most α, and its minimum over p reaches it
    no sooner. One claim is paid for instead of two: at 10,000 decisions an arm and a rate of .20
    that is 14 % narrower than the difference of two intervals at α/2.

    The logarithm of the product is convex in both rates, so each bound is where a line of constant
    lift touches a level set. With Lagrange's multiplier λ both rates solve a quadratic equation,
    and λ is found by Newton's method.

    Args:
        control_successes: Σ r of the control; arguments broadcast.
        control_trials: its n.
        successes: Σ r of each arm.
        trials: its n.
        alpha: the probability that it ever misses the lift, at most.
    """
    n_c = np.asarray(control_trials, dtype=np.float64)
    n_a = np.asarray(trials, dtype=np.float64)
    s_c, s_a = np.clip(control_successes, 0.0, n_c), np.clip(successes, 0.0, n_a)
    s_c, n_c, s_a, n_a, alpha = np.broadcast_arrays(s_c, n_c, s_a, n_a, alpha)
    budget = -np.log(alpha) - _at_mean(s_c, n_c) - _at_mean(s_a, n_a)
    # Failures of the one fall while successes of the other do: a lift is 1 less both.
    highest = 1.0 - _least_sum(s_c, n_c, n_a - s_a, n_a, budget)
    lowest = _least_sum(s_a, n_a, n_c - s_c, n_c, budget) - 1.0
    return lowest, highest


def _at_mean(s: FloatArray, n: FloatArray) -> FloatArray:
    """Return log E(s/n), at most 0: what the mixture costs at the rate that fits best."""
    return _gamma_excess(s) + _gamma_excess(n - s) - _gamma_excess(n) - np.log1p(n)


def _gamma_excess(x: FloatArray) -> FloatArray:
    """Return log Γ(x + 1) − x log x + x for x ≥ 0, without cancelling at large x."""
    large = np.maximum(x, _STIRLING_FROM)
    square = large * large
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / large
    small = np.minimum(x, _STIRLING_FROM)
    direct = gammaln(small + 1) - small * np.log(np.maximum(small, _TINY)) + small
    return np.where(x >= _STIRLING_FROM, 0.5 * np.log(2 * np.pi * large) + series, direct)


def _surprise(count: FloatArray, trials: FloatArray, rate: FloatArray) -> FloatArray:
    """Return count log(count / (trials rate)), 0 where nothing was counted.

    Over successes and failures these add up to n kl(s/n, p).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, count * np.log(count / (trials * rate)), 0.0)


def _lowest_rate(s: FloatArray, n: FloatArray, budget: FloatArray) -> FloatArray:
    """Find the rate below s/n at which n kl(s/n, rate) = budget, by Newton's method.

    The unknown is the distance d between the two on the log-odds scale, in which the divergence
    log(u + v e^(−d)) + v d, with v = s/n and u = 1 − v, is convex: from the second step on the
    method comes down monotonically.
    """
    inside = (s > 0) & (s < n)
    v = np.where(inside, s, 0.5) / np.where(inside, n, 1.0)
    u = np.where(inside, n - s, 0.5) / np.where(inside, n, 1.0)
    target = budget / np.maximum(n, _TINY)
    aim = np.where(inside, target, 1.0)
    v = np.maximum(v, _TINY)  # a sum this small is what rounding has left of none
    d = np.minimum(np.sqrt(2 * aim / (u * v)) + aim / v, (aim - np.log(u)) / v)
    for _ in range(_NEWTON_STEPS):
        left = v * np.exp(-d)
        step = (np.log(u + left) + v * d - aim) / (v - left / (u + left))
        d = d - step
        if np.all(np.abs(step) <= _CLOSE * d):
            break
    left = v * np.exp(-d)
    return np.where(inside, left / (u + left), np.where(s > 0, np.exp(-target), 0.0))


def _least_sum(
    s: FloatArray, n: FloatArray, t: FloatArray, m: FloatArray, budget: FloatArray
) -> FloatArray:
    """Find the least x + y with n kl(s/n, x) + m kl(t/m, y) ≤ budget, by Newton's method.

    With multiplier λ, x solves n (s/n − x) = λ x (1 − x), and y its like; both fall as λ grows, so
    the divergence grows with it. Its derivative by log λ is the sum of n g² / (g² + u v), where
    g = s/n − x, v = s/n and u = 1 − v: that grows too, so the method comes down monotonically from
    the second step on. The divergence is at most λ, and at least what x alone has.
    """
    low = np.log(budget / 2)
    reach = np.minimum(_log_multiplier_beyond(s, n, budget), _log_multiplier_beyond(t, m, budget))
    high = np.maximum(np.minimum(reach, _LARGEST_LOG), low)
    variance = np.maximum(_mean_variance(s, n) + _mean_variance(t, m), _TINY)
    log_multiplier = np.clip(np.log(2 * budget / variance) / 2, low, high)
    for _ in range(_NEWTON_STEPS):
        x, y = _fallen(s, n, log_multiplier), _fallen(t, m, log_multiplier)
        excess = _divergence(s, n, x) + _divergence(t, m, y) - budget
        slope = _slope(s, n, x) + _slope(t, m, y)
        moved = np.clip(log_multiplier - excess / np.maximum(slope, _TINY), low, high)
        still = np.all(np.abs(moved - log_multiplier) <= _CLOSE)
        log_multiplier = moved
        if still:
            break
    return _fallen(s, n, log_multiplier) + _fallen(t, m, log_multiplier)


def _mean_variance(s: FloatArray, n: FloatArray) -> FloatArray:
    """Return the variance of s/n, u v / n; 0 without any decision."""
    return s * (n - s) / np.maximum(n, _TINY) ** 3


def _fallen(s: FloatArray, n: FloatArray, log_multiplier: FloatArray) -> FloatArray:
    """Solve n (s/n − x) = λ x (1 − x) for x in [0, s/n], without cancelling."""
    multiplier = np.exp(log_multiplier)
    root = np.hypot(multiplier - n, 2 * np.sqrt(multiplier * (n - s)))
    return 2 * s / (multiplier + n + root)


def _slope(s: FloatArray, n: FloatArray, x: FloatArray) -> FloatArray:
    """Return by how much n kl(s/n, x) grows with log λ."""
    square = (s - n * x) ** 2
    return n * square / np.maximum(square + s * (n - s), _TINY)


def _divergence(s: FloatArray, n: FloatArray, x: FloatArray) -> FloatArray:
    """Return n kl(s/n, x)."""
    return _surprise(s, n, x) + _surprise(n - s, n, 1.0 - x)


def _log_multiplier_beyond(s: FloatArray, n: FloatArray, budget: FloatArray) -> FloatArray:
    """Return log λ at which x alone has used up the budget: x ≤ s/λ, and kl ≥ v log(v/x) + u log u.

    Infinite where s = 0: then x is 0 whatever λ is, and costs nothing.
    """
    with np.errstate(divide="ignore", over="ignore"):
        floor = np.where(s < n, _surprise(n - s, n, np.ones_like(n)), 0.0)
        return np.log(np.maximum(n, _TINY)) + (budget - floor) / s
