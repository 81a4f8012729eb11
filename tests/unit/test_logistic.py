"""Logistic regression by arm, against a general optimiser."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

from bandits.numerics.ridge_fit import RidgeFit
from bandits.problem import Problem
from bandits.registry import make
from bandits.statistics import Ridge
from bandits.statistics.accumulator import Accumulator
from bandits.statistics.logistic import LogisticSums
from simulations.csv_log import ReplayLog
from simulations.replay import replay

PROBLEM = Problem.of(3, 2)


def observed(n, seed=1):
    rng = np.random.default_rng(seed)
    contexts = np.column_stack([np.ones(n), rng.normal(size=n)])
    arms = rng.integers(0, 3, n)
    rates = expit(-2 + 0.5 * arms + contexts[:, 1] * (arms - 1))
    return arms, (rng.random(n) < rates).astype(float), contexts, rng.uniform(0.5, 1, n)


def fitted(statistic, penalty=1.0):
    """The mode under the prior N(0, 1/λ), and the precision there with the prior's."""
    fit = RidgeFit(
        Ridge(statistic.precision, statistic.shift, np.zeros_like(statistic.precision)), penalty
    )
    return fit.theta, statistic.precision + penalty * np.eye(2)


@pytest.mark.parametrize("penalty", [1.0, 0.01, 30.0])
def test_the_mode_and_its_curvature_are_those_of_the_posterior(penalty):
    arms, rewards, contexts, weights = observed(400)
    family = make("logistic_thompson", {"ridge": penalty}).statistic
    theta, precision = fitted(
        family.from_observations(PROBLEM, arms, rewards, contexts, weights), penalty
    )
    for k in range(3):
        x, r, w = contexts[arms == k], rewards[arms == k], weights[arms == k]

        def minus_log_posterior(t, x=x, r=r, w=w):
            odds = x @ t
            return penalty * t @ t / 2 - (w * (r * odds - np.logaddexp(0, odds))).sum()

        best = optimize.minimize(minus_log_posterior, np.zeros(2), method="BFGS", tol=1e-10)
        rates = expit(x @ best.x)
        curvature = penalty * np.eye(2) + x.T @ ((w * rates * (1 - rates))[:, None] * x)
        assert theta[k] == pytest.approx(best.x, abs=1e-4)
        assert precision[k] == pytest.approx(curvature, rel=1e-3)


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("weight", [1.0, 1e9])
def test_fit_of_one_sided_results_converges_to_the_mode(reward, weight):
    n = 50
    statistic = LogisticSums.from_observations(
        Problem.of(1, 1), np.zeros(n, np.int64), np.full(n, reward), np.ones((n, 1)),
        np.full(n, weight),
    )  # fmt: skip
    theta = statistic.shift[0, 0] / (statistic.precision[0, 0, 0] + 1)
    # At the mode the likelihood's slope is the prior's.
    assert n * weight * (reward - expit(theta)) == pytest.approx(theta, rel=1e-6)


def test_accumulator_fits_parts_together_and_does_not_add_them():
    """Where each part has few rewards the prior of each would pull its weights to 0."""
    arms, rewards, contexts, weights = observed(400)
    accumulator = Accumulator(LogisticSums, PROBLEM)
    for i in (slice(0, 20), slice(20, 300), slice(300, None)):
        accumulator.add(arms[i], rewards[i], contexts[i], weights[i])
        assert accumulator.statistic is accumulator.statistic
    together, _ = fitted(LogisticSums.from_observations(PROBLEM, arms, rewards, contexts, weights))
    assert fitted(accumulator.statistic)[0] == pytest.approx(together, abs=1e-12)


def test_a_replayed_log_is_learned_as_a_whole():
    """One arm at a rate of .02: a sum of fits to one row each would take it for .12."""
    rewards = (np.arange(3000) % 50 == 0).astype(float)
    log = ReplayLog(("a",), np.zeros(3000, np.int64), rewards, np.ones((3000, 1)), None)
    prepared = []

    class Watched:
        advance = None

        def __init__(self):
            self.inner = make("logistic_thompson")
            self.name, self.support = self.inner.name, self.inner.support
            self.statistic, self.sample = self.inner.statistic, self.inner.sample

        def prepare(self, *arguments):
            prepared.append(self.inner.prepare(*arguments))
            return prepared[-1]

    replay(log, Watched())
    rate = expit(prepared[-1].means(np.ones((1, 1)))).item()
    assert rate == pytest.approx(0.02, abs=0.002)
    assert 50 < len(prepared) < 300


def test_sum_of_two_large_fits_is_near_the_fit_of_both():
    arms, rewards, contexts, weights = observed(20_000)
    parts = [
        LogisticSums.from_observations(PROBLEM, arms[i], rewards[i], contexts[i], weights[i])
        for i in (slice(0, 10_000), slice(10_000, None))
    ]
    apart, _ = fitted(parts[0] + parts[1])
    together, _ = fitted(LogisticSums.from_observations(PROBLEM, arms, rewards, contexts, weights))
    assert apart == pytest.approx(together, abs=0.01)


def test_recipients_get_the_variant_that_they_click():
    arms, rewards, contexts, weights = observed(6000)
    statistic = LogisticSums.from_observations(PROBLEM, arms, rewards, contexts, weights)
    policy = make("logistic_thompson")
    prepared = policy.prepare(statistic, PROBLEM, 1, np.random.default_rng(2))
    actual = policy.propensities(prepared, np.array([[1.0, -3.0], [1.0, 3.0]]))
    assert actual[0].argmax() == 0
    assert actual[1].argmax() == 2
    assert actual[0, 0] > 0.99
    assert actual[1, 2] > 0.99
