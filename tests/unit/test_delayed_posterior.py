"""Chances to be the best while answers are late, beside plain sums over every parameter."""

import numpy as np
import pytest
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from bandits.numerics.delay_laws import LONGEST, SHORTEST
from bandits.numerics.delayed_posterior import DelayedCounts, delayed_chances
from bandits.numerics.quadrature import beta_chances
from tests.conftest import SOAK

LOG_SIGMA = np.linspace(np.log(0.2), np.log(3.5), 19)
LOG_TAU = np.log(0.05) + np.log(1.6 / 0.05) * (np.arange(14) + 0.5) / 14
M = np.log(0.08) + 1.5 * np.linspace(-3.5, 3.5, 41)
MU = np.linspace(SHORTEST, LONGEST, 201)
LOG_ODDS = np.linspace(-7, 6, 301)


def counts_of(answered, log_delays, silent, ages, closed):
    """Counts of arms whose answers all have the same log delay and spread around it."""
    answered = np.array(answered, dtype=float)
    mean, spread = np.array(log_delays, dtype=float), 0.9
    delays = np.stack([answered, answered * mean, answered * (mean**2 + spread**2)], axis=-1)
    silent = np.array(silent, dtype=float)
    log_ages = np.broadcast_to(np.log(ages), silent.shape)
    return DelayedCounts(answered, delays, silent, log_ages, np.array(closed, dtype=float))


def plain_chances(counts):
    """Sum over a fixed grid of every parameter."""
    k = len(counts.answered)
    p = 1 / (1 + np.exp(-LOG_ODDS))
    of_mu = cell_weights()
    total, shares = [], []
    for log_sigma in LOG_SIGMA:
        sigma = np.exp(log_sigma)
        densities = [arm_densities(counts, arm, sigma, p, of_mu) for arm in range(k)]
        log_peaks = sum(peak for _, peak in densities)
        density = np.stack([values for values, _ in densities], axis=1)  # (C, K, Q)
        below = np.cumsum(density, axis=-1) - density / 2
        mass = density.sum(axis=-1)
        best = [
            (density[:, i] * np.delete(below, i, axis=1).prod(axis=1)).sum(axis=-1)
            for i in range(k)
        ]
        prior = -(((log_sigma - np.log(1.1)) / 0.5) ** 2) / 2
        total.append(log_peaks + prior + np.log(mass.prod(axis=1) @ prior_of_cells()))
        shares.append(np.array(best) @ prior_of_cells() / (mass.prod(axis=1) @ prior_of_cells()))
    weights = np.exp(np.array(total) - logsumexp(total))
    return weights @ np.array(shares)


def prior_of_cells():
    weights = np.exp(-(((M - np.log(0.08)) / 1.5) ** 2) / 2)
    return np.repeat(weights[None] / weights.sum(), len(LOG_TAU), axis=0).ravel()


def cell_weights():
    """Weights of the nodes of μ for every (τ, m), (C, J); an end has all that is beyond it."""
    edges = np.concatenate([[-np.inf], (MU[1:] + MU[:-1]) / 2, [np.inf]])
    tau, m = (a.ravel()[:, None] for a in np.meshgrid(np.exp(LOG_TAU), M, indexing="ij"))
    return np.diff(ndtr((edges - m) / tau), axis=1)


def arm_densities(counts, arm, sigma, p, of_mu):
    """Return an arm's likelihood by cell and rate, (C, Q), over its largest, and that one's log."""
    at_end = ndtr(-MU / sigma)
    f = ndtr((counts.log_ages[arm] - MU[:, None]) / sigma) / at_end[:, None]  # (J, B)
    n, first, second = counts.delays[arm]
    of_delays = -n * (np.log(sigma) + log_ndtr(-MU / sigma))
    of_delays = of_delays - (second - 2 * MU * first + n * MU**2) / (2 * sigma**2)
    like = np.log1p(-p[:, None, None] * f) @ counts.silent[arm]  # (Q, J)
    like = like + of_delays
    # Beta(1, 1) on the rate is p (1 - p) on its log odds.
    alpha, beta = counts.answered[arm] + 1, counts.closed[arm] + 1
    like += (alpha * np.log(p) + beta * np.log1p(-p))[:, None]
    peak = like.max()
    return of_mu @ np.exp(like - peak).T, peak


STATES = {
    "one wave, hours old": counts_of(
        [9, 14, 6], [-5.0, -4.8, -5.1], [[191], [186], [194]], [0.02], [0, 0, 0]
    ),
    "three waves, one arm slow": counts_of(
        [60, 30], [-3.6, -2.2], [[90, 100, 90], [110, 100, 130]], [0.03, 0.1, 0.3], [0, 0]
    ),
    "partly closed": counts_of(
        [120, 131, 118],
        [-2.8, -2.9, -2.6],
        [[200, 80], [190, 90], [210, 70]],
        [0.05, 0.4],
        [300] * 3,
    ),
    "nobody answered yet": counts_of([0, 0], [0, 0], [[40], [90]], [0.1], [0, 0]),
    "rare": counts_of([3, 7], [-1.5, -1.0], [[400, 500], [500, 400]], [0.2, 0.6], [100, 100]),
}


@pytest.mark.parametrize("state", STATES)
def test_chances_are_those_of_plain_sums(state):
    expected = plain_chances(STATES[state])
    assert delayed_chances(STATES[state], 1.0, 1.0) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("n", [10**2, 10**4, 10**7])
def test_chances_of_closed_windows_are_those_of_beta_laws(n):
    answered = np.round(n * np.array([0.2, 0.21, 0.22]))
    closed = n - answered
    counts = counts_of(answered, [-3, -2, -1], np.zeros((3, 1)), [1.0], closed)
    expected = beta_chances(answered + 1, closed + 1)
    assert delayed_chances(counts, 1.0, 1.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [10**2, 10**4, 10**6])
def test_chances_of_windows_that_are_about_to_close_are_nearly_those_of_beta_laws(n):
    """All sends are as old as the window but for a thousandth: nearly every answer is in."""
    answered = np.round(n * np.array([0.2, 0.21, 0.22]))
    silent = (n - answered)[:, None]
    counts = counts_of(answered, [-3, -3, -3], silent, [0.999], np.zeros(3))
    expected = beta_chances(answered + 1, n - answered + 1)
    assert delayed_chances(counts, 1.0, 1.0) == pytest.approx(expected, abs=0.01)


def test_chances_do_not_depend_on_the_order_of_arms():
    counts = STATES["one wave, hours old"]
    order = [2, 0, 1]
    turned = DelayedCounts(*(column[order] for column in counts))
    chances = delayed_chances(counts, 1.0, 1.0)
    assert delayed_chances(turned, 1.0, 1.0) == pytest.approx(chances[order], abs=1e-9)


def drawn_world(rng):
    """Return the best arm and the chances of a world of the prior, two waves into a campaign."""
    arms, age = 3, np.array([0.3, 0.1])
    rates = rng.uniform(size=arms)
    sigma = np.clip(np.exp(np.log(1.1) + 0.5 * rng.standard_normal()), 0.1, 4.0)
    tau = np.exp(rng.uniform(np.log(0.05), np.log(1.6)))
    m = np.log(0.08) + 1.5 * rng.standard_normal()
    mu = np.clip(m + tau * rng.standard_normal(arms), SHORTEST, LONGEST)
    answered, silent = np.zeros((arms, 3)), np.zeros((arms, 2))
    for arm in range(arms):
        for wave in range(2):
            sent = rng.integers(10, 60)
            places = rng.uniform(size=rng.binomial(sent, rates[arm])) * ndtr(-mu[arm] / sigma)
            logs = mu[arm] + sigma * ndtri(places)
            logs = logs[logs <= np.log(age[wave])]
            answered[arm] += [len(logs), logs.sum(), (logs**2).sum()]
            silent[arm, wave] = sent - len(logs)
    log_ages = np.broadcast_to(np.log(age), silent.shape)
    counts = DelayedCounts(answered[:, 0], answered, silent, log_ages, np.zeros(arms))
    return rates.argmax(), delayed_chances(counts, 1.0, 1.0)


def test_chances_are_calibrated_where_rates_and_laws_come_from_the_prior():
    """Each arm is the best as often as its chances say, within 4 standard errors.

    The negative control: chances that are sharper than these by a power of 2 are not.
    """
    rng = np.random.default_rng(3)
    drawn = [drawn_world(rng) for _ in range(2000 if SOAK else 100)]
    best = np.array([b for b, _ in drawn])
    chances = np.array([c for _, c in drawn])

    def score(p):
        """Distance of the mean log chance of the best from what the chances themselves expect."""
        log_p = np.log(np.maximum(p, 1e-12))
        entropy = (p * log_p).sum(axis=1)
        variance = (p * log_p**2).sum(axis=1) - entropy**2
        gap = log_p[np.arange(len(p)), best] - entropy
        return gap.sum() / np.sqrt(variance.sum())

    sharper = chances**2
    assert abs(score(chances)) < 4
    assert abs(score(sharper / sharper.sum(axis=1, keepdims=True))) > 4
    assert chances.max(axis=1).mean() > 0.6
