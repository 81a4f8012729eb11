"""Moments that learn in place, against the frozen ones."""

import numpy as np
import pytest

from bandits.problem import Problem
from bandits.statistics import Moments
from bandits.statistics.online_moments import OnlineMoments

PROBLEM = Problem.of(3)
LEAD = (4,)


def taught(steps, start):
    rng = np.random.default_rng(1)
    running, frozen = OnlineMoments(start, np.empty(start.count.shape), squares=True), start
    for _ in range(steps):
        arms, rewards = rng.integers(0, 3, LEAD), rng.random(LEAD)
        running.learn(arms, rewards)
        frozen = frozen.update(arms, rewards)
    return running, frozen


@pytest.mark.parametrize("steps", [0, 1, 2, 50])
def test_online_moments_agree_with_moments(steps):
    running, frozen = taught(steps, Moments.zeros(PROBLEM, LEAD))
    for name in ("count", "total", "means", "variances"):
        assert np.allclose(getattr(running, name), getattr(frozen, name), rtol=1e-12), name
    assert np.allclose(running.log_rounds, frozen.log_rounds, rtol=1e-12)
    assert running.complete == bool(frozen.count.min() > 0)
    if running.complete:
        bounds = running.bounds(3.0, running.count)
        assert np.allclose(bounds, frozen.bounds(3.0, frozen.count), rtol=1e-12)
    others = np.full((4, 3), 4.0)
    assert np.allclose(running.bounds(3.0, others), frozen.means + 1.5, rtol=1e-12)


def test_online_moments_keep_the_rounds_of_each_state():
    weights = np.arange(1, 5)[:, None] * np.ones((4, 3))
    start = Moments.from_observations(
        PROBLEM, np.tile(np.arange(3), (4, 1)), weights, weights, weights
    )
    running, frozen = taught(5, start)
    assert np.allclose(running.log_rounds, frozen.log_rounds, rtol=1e-12)
    assert len(np.unique(running.log_rounds)) == 4
    bounds = running.bounds(running.log_rounds, running.count)
    assert np.allclose(bounds, frozen.bounds(frozen.log_rounds, frozen.count), rtol=1e-12)


def test_online_moments_bounds_write_to_their_own_place_alone():
    place = np.empty((4, 3))
    running = OnlineMoments(taught(50, Moments.zeros(PROBLEM, LEAD))[1], place, squares=False)
    means, count = running.means.copy(), running.count.copy()
    assert running.bounds(2.0, running.count) is place
    assert running.bounds(2.0, count) is not place
    assert np.array_equal(running.means, means)
    assert np.array_equal(running.count, count)


def test_online_moments_leave_their_start_as_it_was():
    start = Moments.zeros(PROBLEM, LEAD)
    running, _ = taught(20, start)
    assert running.count.sum() == 80
    assert start.count.sum() == start.total.sum() == start.square.sum() == 0


def test_variances_are_refused_where_squares_are_not_summed():
    running = OnlineMoments(Moments.zeros(PROBLEM, LEAD), np.empty((4, 3)), squares=False)
    with pytest.raises(ValueError, match="squares"):
        _ = running.variances
