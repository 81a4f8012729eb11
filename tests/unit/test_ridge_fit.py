"""The regressions behind LinUCB and its kin, against plain algebra."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from bandits.numerics.online_ridge import OnlineRidge
from bandits.numerics.ridge_fit import RidgeFit, mean_rates
from bandits.problem import Problem
from bandits.statistics import Ridge

K, D = 3, 4
PROBLEM = Problem.of(K, D)


def observed(n, seed, lead=()):
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, K, (*lead, n))
    return arms, rng.normal(size=arms.shape), rng.normal(size=(*arms.shape, D))


def known_of(arms, rewards, contexts):
    return Ridge.from_observations(PROBLEM, arms, rewards, contexts, np.ones(arms.shape))


def test_means_and_widths_are_those_of_the_textbook():
    arms, rewards, contexts = observed(40, seed=1)
    fit = RidgeFit(known_of(arms, rewards, contexts), ridge=0.7)
    x = np.random.default_rng(2).normal(size=D)
    for k in range(K):
        mine = arms == k
        gram = 0.7 * np.eye(D) + contexts[mine].T @ contexts[mine]
        theta = np.linalg.inv(gram) @ contexts[mine].T @ rewards[mine]
        assert fit.means(x)[k] == pytest.approx(x @ theta, rel=1e-12)
        assert fit.widths(x)[k] == pytest.approx(np.sqrt(x @ np.linalg.inv(gram) @ x), rel=1e-12)


def test_pending_decisions_narrow_the_width_and_leave_the_mean():
    arms, rewards, contexts = observed(40, seed=3)
    statistic = known_of(arms, rewards, contexts)
    waiting = Ridge.from_pending(PROBLEM, arms, contexts, np.ones(40))
    x = np.random.default_rng(4).normal(size=(6, D))
    before, after = RidgeFit(statistic, 1.0), RidgeFit(statistic + waiting, 1.0)
    assert np.array_equal(before.means(x), after.means(x))
    assert np.all(after.widths(x) < before.widths(x))


def test_unseen_arm_is_as_wide_as_the_ridge_allows():
    fit = RidgeFit(Ridge.zeros(PROBLEM), ridge=4.0)
    x = np.random.default_rng(5).normal(size=(6, D))
    assert np.allclose(fit.widths(x), np.linalg.norm(x, axis=-1)[:, None] / 2)
    assert np.all(fit.means(x) == 0)


def test_widths_do_not_depend_on_how_contexts_are_chunked():
    arms, rewards, contexts = observed(40, seed=6)
    fit = RidgeFit(known_of(arms, rewards, contexts), ridge=1.0)
    x = np.random.default_rng(7).normal(size=(30_000, D))
    assert np.allclose(fit.widths(x)[20_000:20_010], fit.widths(x[20_000:20_010]), rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 100, 4500])
def test_online_ridge_drifts_less_than_a_billionth(steps):
    lead = (4,)
    start = known_of(*observed(5, seed=8, lead=lead))
    arms, rewards, contexts = observed(steps, seed=9, lead=lead)
    fit = RidgeFit(start, 1.0)
    for t in range(steps):
        fit = fit.update(arms[:, t], rewards[:, t], contexts[:, t])
    anew = RidgeFit(start + known_of(arms, rewards, contexts), 1.0)
    x = np.random.default_rng(10).normal(size=(4, 20, D))
    assert np.abs(fit.means(x) - anew.means(x)).max() < 1e-9
    assert np.abs(fit.widths(x) - anew.widths(x)).max() < 1e-9
    assert np.abs(fit.means(x[:, 0]) - anew.means(x[:, 0])).max() < 1e-9
    assert np.abs(fit.widths(x[:, 0]) - anew.widths(x[:, 0])).max() < 1e-9


def test_online_ridge_begins_anew_from_a_factorisation():
    fit = OnlineRidge(Ridge.zeros(PROBLEM), 1.0)
    arms, rewards, contexts = observed(4200, seed=11)
    walks = [fit]
    for t in range(4200):
        walks.append(walks[-1].update(arms[t], rewards[t], contexts[t]))
    assert len({id(walk) for walk in walks}) == 2


def exact(arms, rewards, contexts, ridge, asks):
    """Means and widths (n, K) by orthogonal factors of contexts, whose squares are not taken."""
    means, widths = [], []
    for k in range(K):
        mine = arms == k
        q, r = np.linalg.qr(np.vstack([contexts[mine], np.sqrt(ridge) * np.eye(D)]))
        theta = np.linalg.solve(r, q.T @ np.append(rewards[mine], np.zeros(D)))
        means.append(asks @ theta)
        widths.append(np.linalg.norm(np.linalg.solve(r.T, asks.T), axis=0))
    return np.stack(means, axis=-1), np.stack(widths, axis=-1)


def nearly_dependent(n, seed):
    """Contexts in [0, 1] of which two features differ by a ten-thousandth; one hardly varies."""
    contexts = np.random.default_rng(seed).random((n, D))
    contexts[:, 0] = 1.0
    contexts[:, 2] = np.clip(contexts[:, 1] + 1e-4 * contexts[:, 2], 0, 1)
    contexts[:, 3] = 0.5 + 1e-4 * contexts[:, 3]
    return contexts


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_ten_thousand_updates_drift_from_the_exact_solution_less_than_a_millionth(ridge):
    """With contexts so nearly dependent that a factorisation of their squares loses 9 digits."""
    n = 10_000
    contexts, asks = nearly_dependent(n, seed=14), nearly_dependent(50, seed=15)
    arms, noise, _ = observed(n, seed=16)
    rewards = contexts @ [0.2, 0.5, -0.5, 0.3] + 0.1 * noise
    fit = RidgeFit(Ridge.zeros(PROBLEM), ridge)
    for t in range(n):
        fit = fit.update(arms[t], rewards[t], contexts[t])
    means, widths = exact(arms, rewards, contexts, ridge, asks)
    assert np.abs(fit.means(asks) - means).max() < 1e-6
    assert np.abs(fit.widths(asks) / widths - 1).max() < 1e-6
    # One observation less is a difference that this would notice.
    means, widths = exact(arms[1:], rewards[1:], contexts[1:], ridge, asks)
    assert np.abs(fit.means(asks) - means).max() > 1e-6
    assert np.abs(fit.widths(asks) / widths - 1).max() > 1e-6


def test_online_ridge_learns_from_other_contexts_than_it_was_asked_about():
    arms, rewards, contexts = observed(30, seed=17, lead=(4,))
    asked, other = (RidgeFit(Ridge.zeros(PROBLEM, (4,)), 1.0) for _ in range(2))
    for t in range(30):
        asked = asked.update(arms[:, t], rewards[:, t], contexts[:, t])
        other = other.update(arms[:, t], rewards[:, t], contexts[:, t])
        asked.predict(contexts[:, t - 1])
    x = contexts[:, 0]
    assert np.array_equal(asked.means(x), other.means(x))
    assert np.array_equal(asked.widths(x), other.widths(x))


def test_online_ridge_predictions_stay_when_asked_again():
    _, _, contexts = observed(3, seed=18, lead=(4,))
    walk = OnlineRidge(known_of(*observed(9, seed=19, lead=(4,))), 1.0)
    before = walk.predict(contexts[:, 0])
    kept = [values.copy() for values in before]
    walk.predict(contexts[:, 1])
    walk.update(np.zeros(4, np.int64), np.ones(4), contexts[:, 2])
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))


def test_online_ridge_factorises_every_step_with_decisions_pending():
    arms, rewards, contexts = observed(30, seed=12)
    waiting = Ridge.from_pending(PROBLEM, arms, contexts, np.ones(30))
    fit = RidgeFit(waiting, 1.0).update(arms[0], rewards[0], contexts[0])
    anew = RidgeFit(waiting + known_of(arms[:1], rewards[:1], contexts[:1]), 1.0)
    assert np.allclose(fit.widths(contexts), anew.widths(contexts), rtol=1e-12)
    assert np.allclose(fit.means(contexts), anew.means(contexts), rtol=0, atol=1e-12)


def test_huge_and_nearly_dependent_sums_are_still_factorised():
    x = np.random.default_rng(13).random((100, D))
    x[:, 1] = x[:, 0] * (1 + 1e-9)
    statistic = Ridge.from_observations(
        PROBLEM, np.zeros(100, np.int64), np.ones(100), x, np.full(100, 1e12)
    )
    fit = RidgeFit(statistic, ridge=1e-3)
    assert np.all(np.isfinite(fit.widths(x)))
    assert np.all(fit.widths(x) >= 0)
    assert np.isfinite(fit.means(x)).all()


def test_sums_over_many_observations_are_those_of_their_parts():
    """So many that they are summed in several parts; the last one alone is none."""
    n = 300_001
    arms, rewards, contexts = observed(n, seed=20)
    whole = Ridge.from_observations(PROBLEM, arms, rewards, contexts, np.ones(n))
    assert np.array_equal(
        Ridge.from_pending(PROBLEM, arms, contexts, np.ones(n)).pending, whole.gram
    )
    for k in range(K):
        x, r = contexts[arms == k], rewards[arms == k]
        assert np.allclose(whole.gram[k], x.T @ x, rtol=1e-11)
        assert np.allclose(whole.moment[k], x.T @ r, rtol=0, atol=1e-8)


def test_a_mean_rate_is_near_the_integral_over_uncertain_odds():
    class Odds:
        def predict(self, contexts):
            means, widths = np.meshgrid(np.linspace(-4, 4, 9), [0.1, 0.5, 1.0, 2.0, 4.0])
            return means, widths / 2

    means, widths = Odds().predict(None)
    actual = mean_rates(Odds(), np.zeros(0), spread=2.0)

    def rate(m, s):
        return integrate.quad(lambda z: stats.norm.pdf(z) * expit(m + s * z), -9, 9)[0]

    exact = np.array([rate(m, 2 * s) for m, s in zip(means.flat, widths.flat, strict=True)])
    assert np.abs(actual.ravel() - exact).max() < 0.02
    assert np.abs(expit(means).ravel() - exact).max() > 0.1
