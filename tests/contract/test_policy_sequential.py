"""Every policy learning step by step, and drawing few at a time, as simulations do.

Each chi-square test has a false alarm with chance 1e-6; all seeds are fixed.
"""

import numpy as np
import pytest
from scipy import stats

from bandits.numerics.batched_index import index_propensities
from bandits.policy import sample_arms
from bandits.problem import Problem
from bandits.registry import make, policies

K, D = 4, 3
FALSE_ALARM = 1e-6
ALL = sorted(policies())
every_policy = pytest.mark.parametrize("name", ALL)
WALKS = [n for n in ALL if policies()[n].advance is not None]
every_walk = pytest.mark.parametrize("name", WALKS)


def problem_of(name):
    low, high = policies()[name].support
    return Problem.of(K, D, max(low, -1.0), min(high, 1.0))


def walked(problem, states, steps, seed):
    """Arms, rewards (states, steps) and contexts (states, steps, D): later arms are better."""
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, K, (states, steps))
    contexts = rng.random((states, steps, D))
    contexts[..., 0] = 1.0
    rewards = np.where(rng.random(arms.shape) < (arms + 1) / 8, 1.0, rng.choice([0, 0.5], steps))
    return arms, problem.low + problem.span * rewards, contexts


def shares(policy, statistic, problem, contexts):
    prepared = policy.prepare(statistic, problem, 1, np.random.default_rng(3))
    return policy.propensities(prepared, contexts)


@every_walk
def test_sequential_state_chooses_as_if_prepared_anew_after_every_step(name):
    """From nothing, so that arms nobody has seen are among them; indices are read all the way."""
    policy, problem = make(name), problem_of(name)
    states, steps = 40, 60
    arms, rewards, contexts = walked(problem, states, steps, seed=1)
    statistic = policy.statistic.zeros(problem, (states,))
    prepared = policy.prepare(statistic, problem, 1, np.random.default_rng(3))
    for i in range(steps):
        step = arms[:, i], rewards[:, i], contexts[:, i]
        prepared = policy.advance(prepared, *step)
        statistic = statistic + policy.statistic.from_observations(
            problem, *(a[:, None] for a in step), np.ones((states, 1))
        )
        asks = contexts[:, (i + 1) % steps]
        expected = shares(policy, statistic, problem, asks)
        assert np.allclose(policy.propensities(prepared, asks), expected, rtol=0, atol=1e-9), i


INDICES = [n for n in WALKS if policies()[n].propensities is index_propensities]


@pytest.mark.parametrize(("name", "width"), [*((n, {}) for n in INDICES), ("ucb1", {"w": 0.0})])
def test_index_is_never_minus_zero_where_rewards_come_to_nothing(name, width):
    """Whose bits are not next to those of 0, which ties are drawn by (`TieSampler`)."""
    policy, problem = make(name, width), problem_of(name)
    rewards = [-0.0, 0.0, problem.low, -problem.low] * 5
    states = 5
    prepared = policy.prepare(policy.statistic.zeros(problem, (states,)), problem, 1, None)
    for reward in np.repeat(rewards, K).reshape(-1, K):
        for arm in range(K):
            step = np.full(states, arm), np.full(states, reward[arm])
            prepared = policy.advance(prepared, *step, np.ones((states, D)))
    scores = prepared.index(prepared.statistic, prepared.statistic.count)
    assert not np.signbit(scores[scores == 0]).any()


@every_walk
def test_sequential_state_has_not_drifted_after_a_thousand_steps(name):
    policy, problem = make(name), problem_of(name)
    states, steps = 3, 1100
    arms, rewards, contexts = walked(problem, states, steps, seed=2)
    nothing = policy.statistic.zeros(problem, (states,))
    prepared = policy.prepare(nothing, problem, 1, np.random.default_rng(3))
    for i in range(steps):
        prepared = policy.advance(prepared, arms[:, i], rewards[:, i], contexts[:, i])
    statistic = policy.statistic.from_observations(
        problem, arms, rewards, contexts, np.ones(arms.shape)
    )
    asks = contexts[:, :20]
    expected = shares(policy, statistic, problem, asks)
    assert np.allclose(policy.propensities(prepared, asks), expected, rtol=0, atol=1e-9)


@every_walk
def test_sequential_state_far_along_agrees_where_arms_differ_in_variance_alone(
    name,
):
    """Until a policy that reads variances does so: at first all of them are as wide as can be."""
    policy, problem = make(name), problem_of(name)
    states, steps = 30, 3000
    arms, _, contexts = walked(problem, states, steps, seed=9)
    spread = np.array([0.0, 0.1, 0.25, 0.5])[arms]
    sides = np.random.default_rng(10).choice([-1.0, 1.0], arms.shape)
    rewards = problem.low + problem.span * (0.5 + spread * sides)
    nothing = policy.statistic.zeros(problem, (states,))
    prepared = policy.prepare(nothing, problem, 1, np.random.default_rng(3))
    for i in range(steps):
        if i % 300 == 299:
            seen = (a[:, :i] for a in (arms, rewards, contexts))
            statistic = policy.statistic.from_observations(problem, *seen, np.ones((states, i)))
            expected = shares(policy, statistic, problem, contexts[:, i])
            actual = policy.propensities(prepared, contexts[:, i])
            assert np.allclose(actual, expected, rtol=0, atol=1e-9), i
        prepared = policy.advance(prepared, arms[:, i], rewards[:, i], contexts[:, i])


def taught_alike(policy, problem, states, steps, seed):
    """Advance states that all see the same; return what is prepared, and what is then known."""
    seen = walked(problem, 1, steps, seed)
    arms, rewards, contexts = (np.repeat(a, states, axis=0) for a in seen)
    nothing = policy.statistic.zeros(problem, (states,))
    prepared = policy.prepare(nothing, problem, 1, np.random.default_rng(3))
    for i in range(steps):
        prepared = policy.advance(prepared, arms[:, i], rewards[:, i], contexts[:, i])
    return prepared, policy.statistic.from_observations(
        problem, *(a[0] for a in seen), np.ones(steps)
    )


@every_walk
@pytest.mark.parametrize("steps", [2, 15])
def test_draws_after_many_steps_follow_the_probabilities(name, steps):
    """After 2 steps some arms are untried: those draws too are of what `prepare` makes of it."""
    policy, problem = make(name), problem_of(name)
    states = 10_000
    prepared, statistic = taught_alike(policy, problem, states, steps, seed=4)
    asks = np.array([1.0, 0.3, 0.6])
    arms = sample_arms(policy, prepared, np.tile(asks, (states, 1)), np.random.default_rng(5))
    assert fits(arms, np.ravel(shares(policy, statistic, problem, asks[None])))


@pytest.mark.parametrize("name", [n for n in WALKS if n != "uniform"])  # it learns nothing
def test_drawing_test_finds_steps_that_were_not_learned(name):
    policy, problem = make(name), problem_of(name)
    prepared, _ = taught_alike(policy, problem, 10_000, 15, seed=4)
    asks = np.array([1.0, 0.3, 0.6])
    arms = sample_arms(policy, prepared, np.tile(asks, (10_000, 1)), np.random.default_rng(5))
    nothing = policy.statistic.zeros(problem)
    assert not fits(arms, np.ravel(shares(policy, nothing, problem, asks[None])))


@every_policy
def test_draws_for_each_of_many_states_follow_the_probabilities(name):
    """Where draws are few for each state, policies draw from posteriors instead of integrating."""
    policy, problem = make(name), problem_of(name)
    states, each = 200, 100
    seen = tuple(np.repeat(a, states, axis=0) for a in walked(problem, 1, 12, seed=6))
    statistic = policy.statistic.from_observations(problem, *seen, np.ones((states, 12)))
    prepared = policy.prepare(statistic, problem, 1, np.random.default_rng(3))
    contexts = np.broadcast_to([1.0, 0.3, 0.6], (states, each, D))
    arms = sample_arms(policy, prepared, contexts, np.random.default_rng(7))
    assert arms.shape == (states, each)
    actual = policy.propensities(prepared, contexts[:, :1])
    assert fits(arms, actual.reshape(states, K).mean(axis=0))


@every_policy
def test_draws_for_identical_recipients_of_a_state_are_independent(name):
    policy, problem = make(name), problem_of(name)
    states, each = 200, 100
    nothing = policy.statistic.zeros(problem, (states,))
    prepared = policy.prepare(nothing, problem, 1, np.random.default_rng(3))
    contexts = np.broadcast_to([1.0, 0.3, 0.6], (states, each, D))
    arms = sample_arms(policy, prepared, contexts, np.random.default_rng(8))
    pairs = arms[:, ::2] * K + arms[:, 1::2]
    table = np.bincount(pairs.ravel(), minlength=K * K).reshape(K, K)
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


def fits(arms, expected):
    """Whether arms may have been drawn with these probabilities, by Pearson's chi-square test."""
    counts = np.bincount(arms.ravel(), minlength=K)
    possible = expected > 0
    if counts[~possible].sum():
        return False
    if possible.sum() == 1:
        return True
    return bool(
        stats.chisquare(counts[possible], counts.sum() * expected[possible]).pvalue > FALSE_ALARM
    )
