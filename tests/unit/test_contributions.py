"""What each feature contributes: the policy's own score, taken apart without a remainder."""

import numpy as np
import pytest

from bandits.numerics.quadrature import normal_chances
from bandits.problem import Problem
from bandits.registry import make, policies

K, D = 3, 4
PERSONAL = sorted(n for n, p in policies().items() if p.statistic.contextual)


def _first(scores):
    return (scores == scores.max()).astype(float)


def _squarecb(totals, _, scale=10.0, exponent=0.5, n=300):
    shares = 1 / (K + scale * n**exponent * (totals.max() - totals))
    shares[totals.argmax()] += 1 - shares.sum()
    return shares


# How each decides by nothing but the totals and widths that it tells; another is refused below.
RULES = {
    "greedy_ridge": lambda totals, _: _first(totals),
    "linucb": lambda totals, widths: _first(totals + widths),
    "lints": normal_chances,
    "logistic_thompson": normal_chances,
    "squarecb": _squarecb,
    "slots_thompson": None,
}


def fitted(name, n=300):
    rng = np.random.default_rng(7)
    problem = Problem.of(K, D)
    arms = rng.integers(0, K, n)
    contexts = np.column_stack([np.ones(n), rng.random((n, D - 1))])
    rewards = (rng.random(n) < 0.2 + 0.2 * arms * contexts[:, 1]).astype(float)
    policy = make(name)
    statistic = policy.statistic.from_observations(problem, arms, rewards, contexts, np.ones(n))
    prepared = policy.prepare(statistic, problem, 1, np.random.default_rng(8))
    return policy, prepared, arms, rewards, contexts


def test_contextual_policies_tell_what_features_contribute():
    assert set(RULES) == set(PERSONAL)


@pytest.mark.parametrize("name", PERSONAL)
def test_a_feature_that_is_0_contributes_nothing_and_others_in_proportion(name):
    policy, prepared, *_ = fitted(name)
    contributions = policy.contributions(prepared, np.array([1.0, 0.5, 0.0, 0.25]))
    more = policy.contributions(prepared, np.array([1.0, 1.0, 0.0, 0.25]))
    assert contributions.terms.shape == (K, D)
    assert np.all(contributions.terms[:, 2] == 0)
    assert np.any(contributions.terms[:, 1] != 0)
    assert more.terms == pytest.approx(contributions.terms * [1, 2, 1, 1], abs=1e-12)


@pytest.mark.parametrize("name", [n for n in PERSONAL if RULES[n]])
def test_sums_and_widths_alone_decide_as_the_policy_does(name):
    policy, prepared, *_ = fitted(name)
    for x in np.column_stack([np.ones(9), np.random.default_rng(9).random((9, D - 1))]):
        parts = policy.contributions(prepared, x)
        propensities = policy.propensities(prepared, x[None])[0]
        assert RULES[name](parts.terms.sum(axis=-1), parts.widths) == pytest.approx(
            propensities, abs=1e-9
        )
        assert parts.log_odds == (name == "logistic_thompson")


@pytest.mark.parametrize("name", ["greedy_ridge", "linucb", "lints", "squarecb"])
def test_sums_are_the_regression_of_what_was_seen(name):
    policy, prepared, arms, rewards, contexts = fitted(name)
    x = np.array([1.0, 0.3, 0.9, 0.1])
    totals = policy.contributions(prepared, x).terms.sum(axis=-1)
    for k in range(K):
        # λ = 1 is one more observation of 0 for each feature alone.
        seen = np.vstack([contexts[arms == k], np.eye(D)])
        earned = np.append(rewards[arms == k], np.zeros(D))
        assert totals[k] == pytest.approx(x @ np.linalg.lstsq(seen, earned)[0], abs=1e-9)


def test_draws_over_slots_scatter_around_the_sums_as_widely_as_told():
    policy, prepared, *_ = fitted("slots_thompson")
    x = np.array([1.0, 0.3, 0.9, 0.1])
    parts = policy.contributions(prepared, x)
    scores = prepared.weights.reshape(-1, K, D) @ x  # one slot, whose variants are the arms
    # Of 1,000 draws the mean errs by 3 % of the deviation and the deviation by 2 %; 6 times that.
    assert np.all(np.abs(scores.mean(axis=0) - parts.terms.sum(axis=-1)) < 0.19 * parts.widths)
    assert scores.std(axis=0) == pytest.approx(parts.widths, rel=0.14)
