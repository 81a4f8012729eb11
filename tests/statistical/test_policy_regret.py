"""Every policy earns on known instances what its literature and our own figures say.

A mean over R replications with standard deviation sd agrees with an expected value of standard
error SE when they differ by at most 4·sqrt(SE² + sd²/R): a false alarm in 16,000 for each
comparison. Seeds are fixed; reduced, R is smaller and the bound wider as it follows.
"""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bandits.policy import sample_arms
from bandits.problem import Problem
from bandits.registry import make
from tests.conftest import SOAK

TWO = np.array([0.9, 0.8])
EMAIL5 = np.array([0.18, 0.20, 0.21, 0.22, 0.24])


def agrees(values, expected, error):
    """Tell whether the mean of values (R,) agrees with an expected one of this standard error."""
    bound = 4 * np.sqrt(error**2 + values.var(ddof=1) / len(values))
    return abs(values.mean() - expected) <= bound


def regret(policy, rates, horizon, replications, seed):
    """Pseudo-regret (R,) of learning after every decision."""
    rng = np.random.default_rng(seed)
    problem = Problem.of(len(rates))
    nothing = policy.statistic.zeros(problem, (replications,))
    prepared = policy.prepare(nothing, problem, 1, rng)
    contexts = np.zeros((replications, 0))
    lost = np.zeros(replications)
    for _ in range(horizon):
        arms = sample_arms(policy, prepared, contexts, rng)
        rewards = (rng.random(replications) < rates[arms]).astype(float)
        prepared = policy.advance(prepared, arms, rewards, contexts)
        lost += rates.max() - rates[arms]
    return lost


KNOWN_REGRETS = [
    ("ucb_tuned", (TWO, 5000), 300, (15.72, 0.22)),
    ("kl_ucb", (TWO, 5000), 300, (12.82, 0.20)),
    ("bayes_ucb", (TWO, 5000), 60, (9.86, 0.24)),
]
if SOAK:  # 20,000 steps take the same time for one replication as for many
    KNOWN_REGRETS += [
        ("ucb_tuned", (EMAIL5, 20_000), 1000, (152.5, 1.9)),
        ("kl_ucb", (EMAIL5, 20_000), 1000, (183.5, 3.3)),
    ]


@pytest.mark.parametrize(("name", "setting", "replications", "expected"), KNOWN_REGRETS)
def test_regret_of_index_policies_agrees(name, setting, replications, expected):
    replications = 1000 if SOAK else replications
    assert agrees(regret(make(name), *setting, replications, seed=1), *expected)


def test_bounds_tell_the_index_policies_apart():
    """The negative control: the regret of one is not that of another.

    UCB-Tuned and KL-UCB differ by 2.9 with an sd of 13 at most, so 2,000 replications tell them
    apart: four standard errors are then 1.4.
    """
    values = regret(make("ucb_tuned"), TWO, 5000, 2000, seed=1)
    assert not agrees(values, 12.82, 0.20)
    assert not agrees(values, 64.52, 0.20)


@pytest.fixture(scope="module")
def digits():
    """The digits as a bandit: pixels between 0 and 1 and a constant, one arm for each label."""
    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels / 16, np.ones(len(pixels))]), labels


def reward_on_digits(policy, digits, every, replications, seed):
    """Reward per step (R,) of one pass in an order of its own, learning after `every` steps."""
    contexts, labels = digits
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(len(labels)) for _ in range(replications)])
    problem = Problem.of(10, contexts.shape[-1])
    statistic = policy.statistic.zeros(problem, (replications,))
    prepared = policy.prepare(statistic, problem, 1, rng)
    earned = np.zeros(replications)
    for start in range(0, len(labels), every):
        rows = orders[:, start : start + every]
        x, y = contexts[rows], labels[rows]
        if every == 1:
            arms = sample_arms(policy, prepared, x[:, 0], rng)[:, None]
            prepared = policy.advance(prepared, arms[:, 0], (arms == y)[:, 0] * 1.0, x[:, 0])
        else:
            arms = sample_arms(policy, prepared, x, rng)
            statistic = statistic + policy.statistic.from_observations(
                problem, arms, (arms == y) * 1.0, x, np.ones(y.shape)
            )
            prepared = policy.prepare(statistic, problem, every, rng)
        earned += (arms == y).sum(axis=-1)
    return earned / len(labels)


@pytest.mark.parametrize(
    ("name", "params", "every", "expected"),
    [
        ("greedy_ridge", {}, 1, (0.720, 0.011)),
        ("greedy_ridge", {}, 100, (0.720, 0.026)),
        ("linucb", {"alpha": 0.25}, 1, (0.859, 0.002)),
        ("linucb", {"alpha": 0.25}, 100, (0.800, 0.004)),
        ("lints", {"v": 0.25}, 1, (0.769, 0.003)),
        ("lints", {"v": 0.25}, 100, (0.737, 0.008)),
    ],
)
def test_reward_on_digits_agrees(name, params, every, expected, digits):
    values = reward_on_digits(make(name, params), digits, every, 40 if SOAK else 10, seed=2)
    assert agrees(values, *expected)


def test_ties_to_the_first_arm_cost_what_they_are_known_to(digits):
    """The negative control: the error to avoid is as large as told, and the bounds find it."""

    class TiesToTheFirst:
        def __init__(self):
            self.inner = make("linucb", {"alpha": 0.25})
            self.statistic, self.prepare = self.inner.statistic, self.inner.prepare

        def sample(self, prepared, contexts, rng):
            return self.inner.propensities(prepared, contexts).argmax(axis=-1)

    values = reward_on_digits(TiesToTheFirst(), digits, 100, 10, seed=2)
    assert not agrees(values, 0.800, 0.004)
    assert abs(values.mean() - 0.52) < 0.05


def test_a_spread_as_large_as_theory_wants_is_ruinous(digits):
    values = reward_on_digits(make("lints", {"v": 1.0}), digits, 100, 4, seed=3)
    assert values.mean() < 0.4


LEVELS = np.array([[a, b, c] for a in range(4) for b in range(4) for c in range(3)])
EFFECTS = [
    np.array([0.0, 0.01, 0.02, 0.05]),
    np.array([0.0, 0.02, 0.01, 0.04]),
    np.array([0.0, 0.01, 0.03]),
]


def slots_regret(name, replications, seed):
    """Pseudo-regret (R,) of an email of 48 arms, 20 waves of 1,000."""
    rng = np.random.default_rng(seed)
    rates = 0.1 + sum(e[LEVELS[:, s]] for s, e in enumerate(EFFECTS))
    problem = Problem(np.arange(48), LEVELS, 1)
    policy = make(name)
    contexts = np.ones((replications, 1000, 1))
    statistic = policy.statistic.zeros(problem, (replications,))
    lost = np.zeros(replications)
    for _ in range(20):
        prepared = policy.prepare(statistic, problem, 1000, rng)
        arms = sample_arms(policy, prepared, contexts, rng)
        rewards = (rng.random(arms.shape) < rates[arms]).astype(float)
        statistic = statistic + policy.statistic.from_observations(
            problem, arms, rewards, contexts, np.ones(arms.shape)
        )
        lost += (rates.max() - rates[arms]).sum(axis=-1)
    return lost


def test_variants_that_learn_from_each_other_halve_the_regret_of_48_arms():
    """By more than four standard errors: a false alarm in 30,000."""
    together = slots_regret("slots_thompson", 12, seed=4)
    apart = slots_regret("thompson", 12, seed=4)
    error = np.sqrt((apart.var(ddof=1) + 4 * together.var(ddof=1)) / 12)
    assert apart.mean() - 2 * together.mean() > 4 * error
