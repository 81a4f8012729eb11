"""Each policy against its own formula, computed in another way for a small example."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import rel_entr

from bandits.problem import Problem
from bandits.registry import make
from bandits.statistics import Moments, Ridge
from policies.kl_ucb import largest_rate

NO_CONTEXTS = np.zeros((1, 0))
SENDS = np.array([50.0, 40.0, 80.0])
WINS = np.array([12.0, 11.0, 15.0])
KNOWN = Moments(SENDS, WINS, WINS, np.zeros(3))
MEANS = WINS / SENDS
LOG_T = np.log(SENDS.sum())


def shares(name, statistic=KNOWN, upcoming=1, **params):
    policy = make(name, params)
    problem = Problem.of(statistic.count.shape[-1])
    prepared = policy.prepare(statistic, problem, upcoming, np.random.default_rng(1))
    return policy.propensities(prepared, NO_CONTEXTS)


def index(name, statistic=KNOWN, **params):
    """The indices that an index policy compares."""
    policy = make(name, params)
    prepared = policy.prepare(statistic, Problem.of(3), 1, np.random.default_rng(1))
    return prepared.index(statistic, statistic.count + statistic.pending)


def test_ucb1_is_mean_plus_width():
    assert index("ucb1") == pytest.approx(MEANS + np.sqrt(2 * LOG_T / SENDS))
    assert index("ucb1", w=0.5) == pytest.approx(MEANS + np.sqrt(0.5 * LOG_T / SENDS))


def test_ucb1s_width_scales_with_the_range_of_rewards():
    policy = make("ucb1")
    prepared = policy.prepare(KNOWN, Problem.of(3, 0, -5.0, 5.0), 1, np.random.default_rng(1))
    expected = MEANS + 10 * np.sqrt(2 * LOG_T / SENDS)
    assert prepared.index(KNOWN, SENDS) == pytest.approx(expected)


def test_ucb_tuned_knows_the_variance_of_rates():
    bound = MEANS * (1 - MEANS) + np.sqrt(2 * LOG_T / SENDS)
    expected = MEANS + np.sqrt(LOG_T / SENDS * np.minimum(0.25, bound))
    assert index("ucb_tuned") == pytest.approx(expected)


def test_kl_ucb_is_the_largest_rate_not_ruled_out():
    q = index("kl_ucb")
    divergence = rel_entr(MEANS, q) + rel_entr(1 - MEANS, 1 - q)
    assert np.all(q > MEANS)
    assert SENDS * divergence == pytest.approx(np.full(3, LOG_T), rel=1e-9)


def test_kl_ucb_of_sure_rates_is_in_closed_form():
    statistic = Moments(SENDS, SENDS * [0, 1, 0.5], SENDS * [0, 1, 0.5], np.zeros(3))
    q = index("kl_ucb", statistic)
    assert q[0] == pytest.approx(1 - np.exp(-LOG_T / SENDS[0]))
    assert q[1] == 1


def test_kl_ucb_converges_for_every_mean_and_divergence():
    rng = np.random.default_rng(1)
    ends = 10 ** rng.uniform(-9, 0, 2000)
    mean = np.concatenate([rng.random(2000), ends, 1 - ends, [0.0, 1.0]])
    divergence = 10 ** rng.uniform(-9, 2, len(mean))
    low, high = mean.copy(), np.ones_like(mean)
    for _ in range(100):
        middle = (low + high) / 2
        inside = rel_entr(mean, middle) + rel_entr(1 - mean, 1 - middle) <= divergence
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    assert np.abs(largest_rate(mean, divergence) - low).max() < 1e-12


def test_bayes_ucb_is_a_quantile_of_the_posterior():
    expected = stats.beta.ppf(1 - 1 / SENDS.sum(), 1 + WINS, 1 + SENDS - WINS)
    assert index("bayes_ucb") == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ucb1", "ucb_tuned", "kl_ucb", "bayes_ucb"])
def test_pending_sends_lower_an_index_and_rewards_do_not_move_it(name):
    waiting = Moments(SENDS, WINS, WINS, np.array([0.0, 100.0, 0.0]))
    before, after = index(name), index(name, waiting)
    assert after[1] < before[1]
    assert after[[0, 2]].tolist() == before[[0, 2]].tolist()


@pytest.mark.parametrize("name", ["ucb1", "ucb_tuned", "kl_ucb", "bayes_ucb"])
def test_index_policies_send_every_arm_once_first(name):
    statistic = Moments(
        np.array([5.0, 0, 0]), np.array([5.0, 0, 0]), np.array([5.0, 0, 0]), np.zeros(3)
    )
    assert shares(name, statistic).tolist() == [0, 0.5, 0.5]


def test_epsilon_greedy_splits_its_random_part_equally():
    best = int(MEANS.argmax())
    expected = np.full(3, 0.1 / 3)
    expected[best] += 0.9
    assert shares("epsilon_greedy") == pytest.approx(expected)


def test_epsilon_greedy_decays_as_one_over_t():
    t = float(SENDS.sum())
    late = shares("epsilon_greedy", epsilon=1.0, decay_after=t / 4)
    assert late.min() == pytest.approx(0.25 / 3)
    early = shares("epsilon_greedy", epsilon=1.0, decay_after=t * 2)
    assert early == pytest.approx(np.full(3, 1 / 3))


def test_softmax_is_in_proportion_to_the_exponential_of_means():
    expected = np.exp(MEANS / 0.05)
    assert shares("softmax", temperature=0.05) == pytest.approx(expected / expected.sum())


def test_softmax_takes_the_coldest_temperature_without_overflow():
    assert shares("softmax", temperature=1e-6).max() == pytest.approx(1)


def test_top_two_shares_with_the_rivals():
    chances = shares("thompson")
    beta = 0.7
    expected = [
        chances[k]
        * (beta + (1 - beta) * sum(chances[j] / (1 - chances[j]) for j in range(3) if j != k))
        for k in range(3)
    ]
    assert shares("top_two_thompson", leader_share=beta) == pytest.approx(np.array(expected))


def test_top_two_still_tells_the_rivals_of_a_clear_leader_apart():
    sends = np.full(3, 50_000.0)
    wins = sends * [0.24, 0.21, 0.20]
    actual = shares("top_two_thompson", Moments(sends, wins, wins, np.zeros(3)))
    assert actual == pytest.approx([0.5, 0.5, 0], abs=1e-9)


def test_top_two_of_one_arm_is_that_arm():
    one = Moments(SENDS[:1], WINS[:1], WINS[:1], np.zeros(1))
    assert shares("top_two_thompson", one).tolist() == [1]


def test_thompson_counts_a_fraction_as_part_success_and_part_failure():
    fractions = Moments(np.array([10.0, 10.0]), np.array([2.5, 4.0]), np.zeros(2), np.zeros(2))
    alpha, beta = np.array([3.5, 5.0]), np.array([8.5, 7.0])
    first = integrate.quad(
        lambda x: stats.beta.pdf(x, alpha[0], beta[0]) * stats.beta.cdf(x, alpha[1], beta[1]), 0, 1
    )[0]
    assert shares("thompson", fractions)[0] == pytest.approx(first, abs=1e-9)


def test_gaussian_thompson_has_murphys_posterior():
    rng = np.random.default_rng(2)
    arms, rewards = rng.integers(0, 3, 60), rng.normal(5, 2, 60)
    statistic = Moments.from_observations(
        Problem.of(3), arms, rewards, np.zeros((60, 0)), np.ones(60)
    )
    problem = Problem.of(3, 0, -10, 20)
    policy = make("thompson_gaussian", {"prior_weight": 2.0, "prior_shape": 3.0})
    posterior = policy.prepare(statistic, problem, 1, rng)
    dof, location, scale = posterior.marginal
    centre = rewards.mean()
    variance = (((rewards - centre) ** 2).sum() + 15.0**2) / 61
    for k in range(3):
        mine = rewards[arms == k]
        n, mean = len(mine), mine.mean()
        shape = 3.0 + n / 2
        rate = 3.0 * variance + ((mine - mean) ** 2).sum() / 2
        rate += 2.0 * n * (mean - centre) ** 2 / (2 * (2.0 + n))
        assert dof[k] == pytest.approx(2 * shape)
        assert location[k] == pytest.approx((2.0 * centre + mine.sum()) / (2.0 + n))
        assert scale[k] ** 2 == pytest.approx(rate / (shape * (2.0 + n)))


def contextual(name, seed=3, **params):
    """Fit a small linear problem; return the policy, its state, contexts, and θ̂ and Σ by arm."""
    rng = np.random.default_rng(seed)
    problem = Problem.of(3, 2)
    arms, contexts = rng.integers(0, 3, 90), rng.normal(size=(90, 2))
    rewards = contexts @ rng.normal(size=2) * (arms + 1) / 3 + rng.normal(size=90) / 2
    statistic = Ridge.from_observations(problem, arms, rewards, contexts, np.ones(90))
    grams = [np.eye(2) + contexts[arms == k].T @ contexts[arms == k] for k in range(3)]
    theta = [
        np.linalg.solve(g, contexts[arms == k].T @ rewards[arms == k]) for k, g in enumerate(grams)
    ]
    policy = make(name, params)
    prepared = policy.prepare(statistic, problem, 1, rng)
    x = rng.normal(size=(40, 2))
    widths = np.stack([np.sqrt(np.vecdot(x @ np.linalg.inv(g), x)) for g in grams], axis=-1)
    return policy.propensities(prepared, x), x @ np.array(theta).T, widths


def test_linucb_takes_the_largest_bound():
    actual, means, widths = contextual("linucb", alpha=0.8)
    assert actual.argmax(axis=-1).tolist() == (means + 0.8 * widths).argmax(axis=-1).tolist()
    assert np.all(actual.max(axis=-1) == 1)


def test_greedy_ridge_takes_the_largest_mean():
    actual, means, _ = contextual("greedy_ridge")
    assert actual.argmax(axis=-1).tolist() == means.argmax(axis=-1).tolist()


def test_lints_is_the_chance_to_be_the_largest_of_independent_normals():
    actual, means, widths = contextual("lints", v=0.3)
    deviations = 0.3 * widths
    for row in range(0, 40, 8):
        m, s = means[row], deviations[row]
        edges = np.unique(np.concatenate([m + s * z for z in (-9, -3, 0, 3, 9)]))

        def integrand(x, m=m, s=s):
            below = stats.norm.cdf(x, m[1:], s[1:])
            return stats.norm.pdf(x, m[0], s[0]) * below.prod()

        first = sum(
            integrate.quad(integrand, low, high, epsabs=1e-12)[0] for low, high in pairwise(edges)
        )
        assert actual[row, 0] == pytest.approx(first, abs=1e-7)


def test_squarecb_falls_with_the_inverse_of_the_gap():
    actual, means, _ = contextual("squarecb", scale=4.0, exponent=0.0)
    gaps = means.max(axis=-1, keepdims=True) - means
    expected = 1 / (3 + 4.0 * gaps)
    best = gaps == 0
    expected[best] = 0
    expected[best] = 1 - expected.sum(axis=-1)
    assert actual == pytest.approx(expected, abs=1e-12)


def test_squarecbs_greed_grows_with_the_results_where_a_feature_is_constant():
    rng = np.random.default_rng(4)
    problem = Problem.of(2, 2)
    contexts = np.column_stack([np.ones(100), rng.random(100)])
    arms = rng.integers(0, 2, 100)
    statistic = Ridge.from_observations(problem, arms, rng.random(100), contexts, np.ones(100))
    prepared = make("squarecb", {"scale": 3.0}).prepare(statistic, problem, 1, rng)
    assert prepared.greed == pytest.approx([3.0 * 10.0])
