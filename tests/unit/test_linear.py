"""The regressions behind LinUCB and its kin, against plain algebra."""

import numpy as np
import pytest

from bandits.numerics.linear import Regression, Walk
from bandits.problem import Problem
from bandits.statistics import Ridge

K, D = 3, 4
PROBLEM = Problem.of(K, D)


def observed(n, seed, lead=()):
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, K, (*lead, n))
    return arms, rng.normal(size=arms.shape), rng.normal(size=(*arms.shape, D))


def known_of(arms, rewards, contexts):
    return Ridge.of(PROBLEM, arms, rewards, contexts, np.ones(arms.shape))


def test_means_and_widths_are_those_of_the_textbook():
    arms, rewards, contexts = observed(40, seed=1)
    fit = Regression(known_of(arms, rewards, contexts), ridge=0.7)
    x = np.random.default_rng(2).normal(size=D)
    for k in range(K):
        mine = arms == k
        gram = 0.7 * np.eye(D) + contexts[mine].T @ contexts[mine]
        theta = np.linalg.inv(gram) @ contexts[mine].T @ rewards[mine]
        assert fit.means(x)[k] == pytest.approx(x @ theta, rel=1e-12)
        assert fit.widths(x)[k] == pytest.approx(np.sqrt(x @ np.linalg.inv(gram) @ x), rel=1e-12)


def test_what_is_pending_narrows_the_width_and_leaves_the_mean():
    arms, rewards, contexts = observed(40, seed=3)
    known = known_of(arms, rewards, contexts)
    waiting = Ridge.waiting(PROBLEM, arms, contexts, np.ones(40))
    x = np.random.default_rng(4).normal(size=(6, D))
    before, after = Regression(known, 1.0), Regression(known + waiting, 1.0)
    assert np.array_equal(before.means(x), after.means(x))
    assert np.all(after.widths(x) < before.widths(x))


def test_an_arm_nobody_has_seen_is_as_wide_as_the_ridge_allows():
    fit = Regression(Ridge.zeros(PROBLEM), ridge=4.0)
    x = np.random.default_rng(5).normal(size=(6, D))
    assert np.allclose(fit.widths(x), np.linalg.norm(x, axis=-1)[:, None] / 2)
    assert np.all(fit.means(x) == 0)


def test_widths_do_not_depend_on_how_contexts_are_chunked():
    arms, rewards, contexts = observed(40, seed=6)
    fit = Regression(known_of(arms, rewards, contexts), ridge=1.0)
    x = np.random.default_rng(7).normal(size=(30_000, D))
    assert np.allclose(fit.widths(x)[20_000:20_010], fit.widths(x[20_000:20_010]), rtol=1e-13)


@pytest.mark.parametrize("steps", [1, 100, 1500])
def test_a_walk_drifts_less_than_a_billionth(steps):
    lead = (4,)
    start = known_of(*observed(5, seed=8, lead=lead))
    arms, rewards, contexts = observed(steps, seed=9, lead=lead)
    fit = Regression(start, 1.0)
    for t in range(steps):
        fit = fit.learned(arms[:, t], rewards[:, t], contexts[:, t])
    anew = Regression(start + known_of(arms, rewards, contexts), 1.0)
    x = np.random.default_rng(10).normal(size=(4, 20, D))
    assert np.abs(fit.means(x) - anew.means(x)).max() < 1e-9
    assert np.abs(fit.widths(x) - anew.widths(x)).max() < 1e-9
    assert np.abs(fit.means(x[:, 0]) - anew.means(x[:, 0])).max() < 1e-9
    assert np.abs(fit.widths(x[:, 0]) - anew.widths(x[:, 0])).max() < 1e-9


def test_a_walk_begins_anew_from_a_factorisation():
    fit = Walk(Regression(Ridge.zeros(PROBLEM), 1.0))
    arms, rewards, contexts = observed(600, seed=11)
    seen = {id(fit)}
    walk = fit
    for t in range(600):
        walk = walk.learned(arms[t], rewards[t], contexts[t])
        seen.add(id(walk))
    assert walk is not fit
    assert len(seen) == 2


def test_with_decisions_pending_every_step_is_a_factorisation():
    arms, rewards, contexts = observed(30, seed=12)
    waiting = Ridge.waiting(PROBLEM, arms, contexts, np.ones(30))
    fit = Regression(waiting, 1.0).learned(arms[0], rewards[0], contexts[0])
    anew = Regression(waiting + known_of(arms[:1], rewards[:1], contexts[:1]), 1.0)
    assert np.allclose(fit.widths(contexts), anew.widths(contexts), rtol=1e-12)
    assert np.allclose(fit.means(contexts), anew.means(contexts), rtol=0, atol=1e-12)


def test_huge_and_nearly_dependent_sums_are_still_factorised():
    x = np.random.default_rng(13).random((100, D))
    x[:, 1] = x[:, 0] * (1 + 1e-9)
    known = Ridge.of(PROBLEM, np.zeros(100, np.int64), np.ones(100), x, np.full(100, 1e12))
    fit = Regression(known, ridge=1e-3)
    assert np.all(np.isfinite(fit.widths(x)))
    assert np.all(fit.widths(x) >= 0)
    assert np.isfinite(fit.means(x)).all()
