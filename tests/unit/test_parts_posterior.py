"""The prior of parts and its posterior draws, beside the textbook's formulas."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bandits.numerics.parts_posterior import MAIN, PAIRS, REST, PartsPosterior, _Prior
from bandits.problem import Problem
from bandits.statistics import Moments

LEVELS = np.array([[a, b] for a in range(3) for b in range(2)])
SENT = np.array([200.0, 100.0, 50.0, 400.0, 0.0, 300.0])
WON = np.array([22.0, 15.0, 4.0, 40.0, 0.0, 45.0])
NOISE = np.array([0.16, 0.25, 0.33, 0.12, np.inf, 0.14])


def posterior(**changes):
    values = {"arms": np.arange(6), "slot_levels": LEVELS, "seed": 3, "n": 1000} | changes
    order = values["arms"]
    statistic = Moments(SENT[order], WON[order], WON[order], np.zeros(6))
    problem = Problem(order, values["slot_levels"][order])
    return PartsPosterior(statistic, problem, np.random.default_rng(values["seed"]), values["n"])


def slot_kernel(same, count):
    return np.where(same, 1.0, -1 / (count - 1))


def test_kernel_of_a_slot_is_one_for_the_same_variant_and_sums_to_zero():
    prior = _Prior.of(LEVELS)
    kernel = prior.main @ prior.main.T
    same = LEVELS[:, None, :] == LEVELS[None, :, :]
    expected = slot_kernel(same[..., 0], 3) + slot_kernel(same[..., 1], 2)
    assert kernel == pytest.approx(expected)
    pair = slot_kernel(same[..., 0], 3) * slot_kernel(same[..., 1], 2)
    assert prior.pair @ prior.pair.T == pytest.approx(pair)
    assert kernel.sum(axis=0) == pytest.approx(np.zeros(6))


def test_slot_with_one_variant_adds_nothing():
    levels = np.column_stack([LEVELS, np.zeros(6, int)])
    assert _Prior.of(levels).covariance == pytest.approx(_Prior.of(LEVELS).covariance)


def test_draws_have_the_posteriors_mean_and_covariance():
    """Over the grid: a mixture, by the likelihood of the arms that have data."""
    prior, residuals = _Prior.of(LEVELS), np.array([0.08, 0.4, -0.15, 0.0, 0.0, 0.25])
    root = 1 / NOISE
    draws = prior.draw(residuals * root, root, np.random.default_rng(4), 200_000)
    has = np.isfinite(NOISE)
    noise = np.diag(NOISE[has] ** 2)
    weights, means, seconds = [], [], []
    for covariance in prior.covariance:
        of_data = covariance[np.ix_(has, has)] + noise
        weights.append(multivariate_normal(np.zeros(5), of_data).logpdf(residuals[has]))
        gain = covariance[:, has] @ np.linalg.inv(of_data)
        means.append(gain @ residuals[has])
        around = covariance - gain @ covariance[has]
        seconds.append(around + np.outer(means[-1], means[-1]))
    weights = np.exp(np.array(weights) - max(weights))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    covariance = np.tensordot(weights, seconds, 1) - np.outer(mean, mean)
    error = np.sqrt(np.diag(covariance) / 200_000)
    assert np.abs(draws.mean(axis=0) - mean).max() <= 5 * error.max()
    assert np.cov(draws.T) == pytest.approx(covariance, abs=0.02 * np.diag(covariance).max())


def test_grid_has_every_combination():
    assert len(_Prior.of(LEVELS).shares) == len(MAIN) * len(PAIRS) * len(REST)


def test_chances_follow_arms_in_any_order():
    order = np.array([3, 0, 5, 1, 4, 2])
    assert posterior(arms=order).chances == pytest.approx(posterior().chances[order])


def test_arm_without_data_has_no_precision():
    precision = posterior()._observed()[1]
    assert precision[4] == 0.0
    assert (precision[SENT > 0] > 0).all()


def test_chances_are_the_shares_of_draws():
    state = posterior()
    counts = np.bincount(state.best, minlength=6)
    assert state.chances == pytest.approx(counts / 1000)
    assert state.chances.sum() == pytest.approx(1)


def test_arms_are_drawn_with_their_chances():
    state = posterior()
    arms = state.draw(np.ones((20_000, 1)), np.random.default_rng(9))
    shares = np.bincount(arms, minlength=6) / 20_000
    assert np.abs(shares - state.chances).max() <= 5 * np.sqrt(0.25 / 20_000)


def test_chances_do_not_depend_on_the_currency():
    problem = Problem(np.arange(6), LEVELS, 0, 0.0, 1.0)
    cents = Problem(np.arange(6), LEVELS, 0, 0.0, 100.0)
    plain = PartsPosterior(
        Moments(SENT, WON, WON, np.zeros(6)), problem, np.random.default_rng(3), 1000
    )
    scaled = PartsPosterior(
        Moments(SENT, 100 * WON, 1e4 * WON, np.zeros(6)), cents, np.random.default_rng(3), 1000
    )
    assert scaled.chances == pytest.approx(plain.chances)


def test_margins_of_both_signs_have_a_scale():
    """Their mean is 0: what an arm earns is still told from what another loses."""
    levels = LEVELS[:4]
    sent, total = np.full(4, 2000.0), np.array([400.0, -400.0, 10.0, -10.0])
    statistic = Moments(sent, total, np.full(4, 2000.0), np.zeros(4))
    problem = Problem(np.arange(4), levels, 0, -1.0, 1.0)
    state = PartsPosterior(statistic, problem, np.random.default_rng(3), 1000)
    assert state.chances[0] > 0.9
