"""One linear model that the arms of an email of slots share."""

import numpy as np
import pytest
from scipy.special import ndtr

from bandits.errors import InvalidInput
from bandits.numerics.linear_posterior_draws import LinearDraws
from bandits.problem import Problem
from bandits.registry import make
from bandits.statistics.slot_ridge import SlotRidge

LEVELS = np.array([[a, b] for a in range(3) for b in range(2)])
PROBLEM = Problem(np.arange(6), LEVELS, 2)


def observed(n, seed=1):
    rng = np.random.default_rng(seed)
    contexts = np.column_stack([np.ones(n), rng.random(n)])
    return rng.integers(0, 6, n), rng.random(n), contexts, rng.random(n)


def features(arm, x):
    """The features of one arm as the docstring tells them: slot, then place, then context."""
    phi = np.zeros((2, 3, 2))
    for slot, level in enumerate(LEVELS[arm]):
        phi[slot, level] = x
    return phi.ravel()


def test_sums_are_those_of_the_features_of_each_arm():
    arms, rewards, contexts, weights = observed(25)
    statistic = SlotRidge.from_observations(PROBLEM, arms, rewards, contexts, weights)
    phi = np.array([features(a, x) for a, x in zip(arms, contexts, strict=True)])
    assert statistic.gram == pytest.approx(phi.T @ (weights[:, None] * phi))
    assert statistic.moment == pytest.approx(phi.T @ (weights * rewards))
    assert statistic.square == pytest.approx([(weights * rewards**2).sum()])
    assert statistic.count == pytest.approx([weights.sum()])


def test_a_variant_that_joins_leaves_what_is_known_in_its_place():
    arms, rewards, contexts, weights = observed(25)
    grown = Problem(np.arange(7), np.vstack([LEVELS, [[0, 3]]]), 2)
    before = SlotRidge.from_observations(PROBLEM, arms, rewards, contexts, weights)
    after = SlotRidge.from_observations(grown, arms, rewards, contexts, weights)
    padded = before.padded(grown)
    assert np.array_equal(padded.gram, after.gram)
    assert np.array_equal(padded.moment, after.moment)


def test_arms_learn_from_each_other():
    """An arm that was never sent is liked for what its parts did elsewhere."""
    never = 5  # the best variant of both slots, never shown together
    rng = np.random.default_rng(2)
    arms = rng.integers(0, 5, 3000)
    rate = 0.1 + 0.1 * LEVELS[arms, 0] + 0.2 * LEVELS[arms, 1]
    rewards = (rng.random(3000) < rate).astype(float)
    contexts = np.ones((3000, 1))
    problem = Problem(np.arange(6), LEVELS, 1)
    statistic = SlotRidge.from_observations(problem, arms, rewards, contexts, np.ones(3000))
    policy = make("slots_thompson")
    shares = policy.propensities(policy.prepare(statistic, problem, 1, rng), np.ones((1, 1)))
    assert shares[0, never] > 0.95


def test_shares_of_draws_agree_with_the_integral_where_there_is_one():
    # With one slot of two variants the scores are independent, so a normal's chance is exact. A
    # false alarm has chance 1e-6: 4.9 standard deviations of a share of 100,000 draws.
    problem = Problem.of(2, 1)
    rng = np.random.default_rng(3)
    arms = np.repeat([0, 1], [40, 60])
    rewards = rng.random(100) + 0.05 * arms
    statistic = SlotRidge.from_observations(problem, arms, rewards, np.ones((100, 1)), np.ones(100))
    draws = LinearDraws(statistic, problem, 1.0, 1.0, rng, 100_000)
    actual = draws.shares(np.ones((1, 1)))[0, 1]
    gram = 1.0 + np.array([40.0, 60.0])
    theta = statistic.moment / gram
    variance = (statistic.square[0] - theta @ statistic.moment + 0.25) / 101
    exact = ndtr((theta[1] - theta[0]) / np.sqrt(variance * (1 / gram).sum()))
    assert abs(actual - exact) < 4.9 * np.sqrt(exact * (1 - exact) / 100_000)


def test_probabilities_depend_on_the_recipient():
    rng = np.random.default_rng(4)
    problem = Problem.of(2, 2)
    contexts = np.column_stack([np.ones(2000), rng.integers(0, 2, 2000)])
    arms = rng.integers(0, 2, 2000)
    rewards = (arms == contexts[:, 1]) * 0.5 + rng.random(2000) * 0.1
    statistic = SlotRidge.from_observations(problem, arms, rewards, contexts, np.ones(2000))
    policy = make("slots_thompson")
    actual = policy.propensities(
        policy.prepare(statistic, problem, 1, rng), np.array([[1.0, 0.0], [1.0, 1.0]])
    )
    assert actual[0, 0] == 1
    assert actual[1, 1] == 1


def test_restriction_keeps_what_other_arms_taught():
    statistic = SlotRidge.from_observations(PROBLEM, *observed(25))
    assert statistic.take(np.array([1, 2])) is statistic


def test_draws_fewer_than_a_thousand_are_refused():
    with pytest.raises(InvalidInput, match="/params/draws"):
        make("slots_thompson", {"draws": 999})


FULL = np.array([[a, b, c] for a in range(3) for b in range(2) for c in range(2)])
EXCLUDED = FULL[[0, 2, 3, 6, 7, 9, 10]]
PAUSED = FULL[FULL[:, 0] != 1]
TOO_MANY = np.random.default_rng(5).integers(0, 2, (7, 21))  # for a table of all combinations

MANY_SLOTS = np.pad(FULL, ((0, 0), (30, 40)))  # more than an array has axes, most of one variant


@pytest.mark.parametrize(
    "levels", [FULL, EXCLUDED, PAUSED, FULL[::-1], FULL[:1], TOO_MANY, MANY_SLOTS]
)
def test_the_best_arm_is_that_of_the_largest_sum_whatever_is_left_out(levels):
    n_slots, n_levels = levels.shape[1], int(levels.max()) + 1
    problem = Problem(np.arange(len(levels)), levels, 2)
    statistic = SlotRidge.zeros(problem)
    draws = LinearDraws(statistic, problem, 1.0, 1.0, np.random.default_rng(3), 1_000)
    contexts = np.random.default_rng(4).random((7, 2))
    weights = draws.weights.reshape(1_000, n_slots, n_levels, 2)
    values = np.einsum("mslf,nf->nmsl", weights, contexts)
    sums = values[:, :, np.arange(n_slots), levels].sum(axis=-1)
    counts = [np.bincount(row, minlength=len(levels)) for row in sums.argmax(axis=-1)]
    assert np.array_equal(draws.shares(contexts) * 1_000, counts)
    one_each = draws.sample(np.repeat(contexts, 2_000, axis=0), np.random.default_rng(6))
    # A false alarm has chance 1e-6 or less: 5.8 standard deviations, for the largest of 84.
    for row, expected in zip(one_each.reshape(7, 2_000), counts, strict=True):
        share = expected / 1_000
        actual = np.bincount(row, minlength=len(levels)) / 2_000
        assert np.abs(actual - share).max() < 5.8 * np.sqrt(0.25 / 2_000)


@pytest.mark.parametrize("levels", [FULL, EXCLUDED, TOO_MANY])
def test_states_whose_recipients_are_alike_are_counted_together_as_each_alone(levels):
    n_slots, n_levels = levels.shape[1], int(levels.max()) + 1
    problem, lead = Problem(np.arange(len(levels)), levels, 1), (30, 2)
    statistic = SlotRidge.zeros(problem, lead)
    draws = LinearDraws(statistic, problem, 1.0, 1.0, np.random.default_rng(3), 1_000)
    contexts = np.random.default_rng(4).uniform(0.5, 1.0, (*lead, 1))
    values = (draws.weights * contexts[..., None]).reshape(*lead, 1_000, n_slots, n_levels)
    sums = values[..., np.arange(n_slots), levels].sum(axis=-1)
    best = np.eye(len(levels))[sums.argmax(axis=-1)].sum(axis=-2)
    assert np.array_equal(draws.shares(contexts) * 1_000, best)
    again = draws.shares(contexts[..., None, :])
    assert np.array_equal(again[..., 0, :] * 1_000, best)
