"""Chances to be best and expected losses, against their definitions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from bandits.numerics import best_arm
from bandits.numerics.best_arm import WARNING, estimate_best_arm
from bandits.numerics.quadrature import normal_chances


def estimate(means, variances, earned=0.2):
    return estimate_best_arm(np.array(means), np.array(variances), np.float64(earned))


def by_hand(means, variances, earned):
    """Integrate two arms over 4,000 values of τ, given which, and their kinds, all is normal."""
    gap, noise_of_gap = means[0] - means[1], sum(variances)
    noise = np.sqrt(1 / np.mean(1 / np.array(variances)))
    typical = min(noise, 0.008 * earned)
    scales = np.geomspace(1e-3 * typical, 1e3 * noise, 4000)
    prior = scales / typical / (1 + (scales / typical) ** 2)  # times τ, the width in log τ
    sums = np.zeros(4)
    for (one, share), (two, other) in product([(1.0, 0.95), (20.0, 0.05)], repeat=2):
        difference = scales**2 * (one**2 + two**2)
        spread = noise_of_gap + difference
        weights = share * other * prior * np.exp(-(gap**2) / spread / 2) / np.sqrt(spread)
        mean = gap * difference / spread
        deviation = np.sqrt(difference * noise_of_gap / spread)
        chance = stats.norm.cdf(mean / deviation)
        ahead = mean * chance + deviation * stats.norm.pdf(mean / deviation)
        sums += [weights.sum(), weights @ chance, weights @ (ahead - mean), weights @ ahead]
    return sums[1:] / sums[0]


@pytest.mark.parametrize(
    ("means", "variances"),
    [
        ([0.21, 0.20], [1e-5, 1e-5]),
        ([0.21, 0.20], [1e-6, 4e-4]),  # a leader with most of the sends
        ([0.20, 0.26], [1e-4, 9e-4]),
        ([0.200, 0.201], [1e-4, 1e-4]),
    ],
)
def test_estimate_of_two_arms_is_that_of_direct_integration(means, variances):
    chance, *losses = by_hand(means, variances, 0.2)
    result = estimate(means, variances)
    assert result.chances == pytest.approx([chance, 1 - chance], abs=0.005)
    assert result.losses == pytest.approx(losses, rel=0.15)  # where sends differ 400-fold
    assert result.warning == WARNING


def independent(locations, deviations, step=0.05):
    """Judge normal variates, each as a mixture of two halves that are the same."""
    halves = np.full(locations.shape, 0.5)
    return best_arm._independent([locations] * 2, [deviations] * 2, [halves] * 2, step)


@pytest.mark.parametrize(("step", "error"), [(0.1, 5e-4), (0.05, 5e-5)])
def test_chances_of_independent_arms_are_those_of_composite_quadrature(step, error):
    rng = np.random.default_rng(1)
    for n_arms in (2, 5, 60):
        deviations = 10 ** rng.uniform(-4, 0, (20, n_arms))
        locations = rng.normal(0, 0.1, (20, n_arms))
        chances, _ = independent(locations, deviations, step)
        assert chances == pytest.approx(normal_chances(locations, deviations), abs=error)


def campaign(rng, n_arms, sends, rates, *, learning):
    """Draw what arms have shown: in equal shares, or the more the better an arm is."""
    weights = np.exp(learning * stats.zscore(rates) * rng.uniform(0.5, 1.5))
    n = np.maximum(sends * n_arms * weights / weights.sum(), 20.0)
    variances = rates * (1 - rates) / n
    return rng.normal(rates, np.sqrt(variances)), variances


ALIKE, NEAR, FAR, ONE_APART = (0.0, 0.0), (0.005, 0.0), (0.03, 0.0), (0.004, 0.03)


@pytest.mark.parametrize(("n_arms", "error"), [(2, 0.005), (5, 0.002), (12, 0.002), (60, 0.002)])
def test_chances_are_those_of_a_grid_four_times_as_fine(n_arms, error):
    """Whatever was sent: a little or much, to arms that are alike, differ, or have one apart."""
    rng = np.random.default_rng(n_arms)
    fine = best_arm.grid_of(n_arms).finer(4)
    for sends, kinds in ((100, (ALIKE, FAR)), (3_000, (NEAR, ONE_APART)), (100_000, (NEAR, FAR))):
        for learning, (deviation, apart) in enumerate(kinds):
            rates = rng.normal(0.2, deviation + 1e-9, n_arms)
            rates[0] += apart
            shown = campaign(rng, n_arms, sends, rates, learning=learning)
            plain, finer = (estimate_best_arm(*shown, np.float64(0.2), g) for g in (None, fine))
            assert plain.chances == pytest.approx(finer.chances, abs=error)
            scale = np.sqrt(shown[1].max())
            assert plain.losses == pytest.approx(finer.losses, rel=0.05, abs=0.01 * scale)


def test_chances_by_too_coarse_a_grid_are_not_those_of_a_finer_one():
    rng = np.random.default_rng(60)
    shown = campaign(rng, 60, 3_000, rng.normal(0.2, 0.005, 60), learning=1.0)
    grid = best_arm.grid_of(60)
    coarse = replace(grid, scales=2, step=10 * grid.step)
    chances = [estimate_best_arm(*shown, np.float64(0.2), g).chances for g in (coarse, grid)]
    assert np.abs(chances[0] - chances[1]).max() > 0.002


def test_chances_of_mixtures_are_those_of_their_parts():
    """A mixture is one part or another, so its chances are a mixture of theirs."""
    locations = [np.array([0.0, 1.0]), np.array([3.0, 1.0])]
    deviations = [np.array([1.0, 2.0]), np.array([0.5, 2.0])]
    shares = [np.array([0.7, 1.0]), np.array([0.3, 0.0])]
    chances, losses = best_arm._independent(locations, deviations, shares, 0.05)
    parts = [independent(np.array([m, 1.0]), np.array([d, 2.0])) for m, d in ((0, 1), (3, 0.5))]
    assert chances == pytest.approx(0.7 * parts[0][0] + 0.3 * parts[1][0], abs=5e-5)
    assert losses == pytest.approx(0.7 * parts[0][1] + 0.3 * parts[1][1], abs=2e-4)


def test_losses_of_two_independent_arms_are_clarks():
    mean, deviation = np.array([1.0, 1.3]), np.array([0.4, 0.7])
    spread = np.hypot(*deviation)
    z = (mean[1] - mean[0]) / spread
    highest = mean[0] * stats.norm.cdf(-z) + mean[1] * stats.norm.cdf(z)
    highest += spread * stats.norm.pdf(z)  # Clark (1961), equation 2
    chances, losses = independent(mean, deviation)
    assert losses == pytest.approx(highest - mean, abs=2e-4)
    assert chances == pytest.approx([stats.norm.cdf(-z), stats.norm.cdf(z)], abs=5e-5)


def test_estimate_of_equal_arms_is_equal():
    result = estimate([0.2] * 5, [1e-4] * 5)
    assert result.chances == pytest.approx(1 / 5)
    assert result.losses == pytest.approx(result.losses[0])


def test_estimate_of_one_arm_is_certain():
    result = estimate([0.2], [1e-4])
    assert result.chances == pytest.approx([1.0])
    assert result.losses == pytest.approx([0.0], abs=1e-4)  # of a deviation of .01


@pytest.mark.parametrize("unit", [1e-6, 100.0, 1e6])
def test_estimate_has_no_unit(unit):
    rng = np.random.default_rng(2)
    means, variances = rng.normal(0.2, 0.01, 7), 10 ** rng.uniform(-6, -4, 7)
    plain, scaled = (
        estimate(means, variances),
        estimate(unit * means, unit**2 * variances, unit / 5),
    )
    assert scaled.chances == pytest.approx(plain.chances, rel=1e-9, abs=1e-12)
    assert scaled.losses == pytest.approx(unit * plain.losses, rel=1e-6)


def test_estimate_does_not_depend_on_the_order_of_arms_or_on_what_all_have():
    rng = np.random.default_rng(3)
    means, variances = rng.normal(0.2, 0.01, 7), 10 ** rng.uniform(-6, -4, 7)
    order = rng.permutation(7)
    plain = estimate(means, variances)
    assert estimate(means[order], variances[order]).chances == pytest.approx(plain.chances[order])
    assert estimate(means - 5, variances).chances == pytest.approx(plain.chances, abs=1e-9)


def test_estimate_of_sure_arms_is_sure_and_of_unsure_arms_is_not():
    sure = estimate([0.2, 0.3, 0.1], [1e-9, 1e-9, 1e-9])
    assert sure.chances == pytest.approx([0, 1, 0], abs=1e-9)
    assert sure.losses == pytest.approx([0.1, 0, 0.2], abs=1e-6)
    unsure = estimate([0.2, 0.3, 0.1], [1.0, 1.0, 1.0])
    assert unsure.chances == pytest.approx(1 / 3, abs=0.02)


def test_estimate_knows_that_one_arm_may_be_apart_from_the_others():
    """With one normal distribution for all, the first would be .61 and the second .68."""
    ahead = estimate([0.1] * 7 + [0.12], [2e-5] * 8, 0.1)
    assert ahead.chances.max() > 0.9  # it is not drawn to others that say nothing of it
    behind = estimate([0.200, 0.205, 0.202, 0.198, 0.1], [1e-5] * 5)
    assert behind.chances.max() < 0.6  # nor do the others look as if they differed


def test_estimate_of_arms_that_earn_next_to_nothing_beside_their_noise_is_finite():
    result = estimate([1e-12, 2e-12, 1e-12], [1.0, 1.0, 2.0], 1e-12)
    assert result.chances == pytest.approx(1 / 3, abs=0.01)
    assert np.isfinite(result.losses).all()


@pytest.mark.parametrize("n_arms", [2, 12, 60])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_estimate_holds_for_whatever_was_sent(n_arms, scale):
    rng = np.random.default_rng(4)
    for earned in (0.0, 1e-9, 1.0):
        means = scale * rng.choice([0.0, 1.0, -3.0], n_arms)
        variances = scale**2 * 10 ** rng.uniform(-9, 1, n_arms)
        result = estimate_best_arm(means, variances, np.float64(scale * earned))
        assert np.isfinite(result.chances).all()
        assert result.chances.sum() == pytest.approx(1)
        assert np.all(result.losses >= 0)


def test_estimate_takes_leading_axes():
    rng = np.random.default_rng(5)
    means, variances = rng.normal(0.2, 0.01, (2, 3, 4)), 10 ** rng.uniform(-6, -4, (2, 3, 4))
    together = estimate_best_arm(means, variances, np.full((2, 3), 0.2))
    for place in np.ndindex(2, 3):
        alone = estimate_best_arm(means[place], variances[place], np.float64(0.2))
        assert together.chances[place] == pytest.approx(alone.chances, abs=5e-3)  # weights left out
        assert together.losses[place] == pytest.approx(alone.losses, rel=0.05, abs=1e-6)


def test_chance_is_never_above_one_by_rounding() -> None:
    means = np.array([0.5, 0.75, 0.5]) + np.linspace(-0.01, 0.01, 500)[:, None] ** 3
    variances = np.broadcast_to(0.25 / np.linspace(500, 3000, 500)[:, None], means.shape)
    assert (estimate_best_arm(means, variances, np.full(500, 0.5)).chances <= 1).all()
