"""Reward of policies with context on digits as a bandit: ten arms, one pass, or every 100.

A mean over R replications with standard deviation sd agrees with an expected value of standard
error SE when they differ by at most 4·sqrt(SE² + sd²/R): a false alarm in 16,000 for each
comparison.
"""

from functools import cache

import numpy as np
import pytest

from simulations.environments import Classification
from simulations.running.schedule import Run
from simulations.simulate import simulate_run

DIGITS = Classification("digits")
HORIZON = 1797
EVERY_100 = (100,) * 17 + (97,)
REPLICATIONS = 10

UNIFORM = ("uniform", {})
GREEDY = ("greedy_ridge", {})
LINUCB = ("linucb", {"alpha": 0.25})
LINTS = ("lints", {"v": 0.25})

REWARDS = [
    (UNIFORM, None, 0.099, 0.002),
    (GREEDY, None, 0.720, 0.011),
    (LINUCB, None, 0.859, 0.002),
    (LINTS, None, 0.769, 0.003),
    (UNIFORM, EVERY_100, 0.101, 0.002),
    (GREEDY, EVERY_100, 0.720, 0.026),
    (LINUCB, EVERY_100, 0.800, 0.004),
    (LINTS, EVERY_100, 0.737, 0.008),
]


@cache
def reward_per_step(name, batches, **params):
    entry = {"name": name, "params": params}
    run = Run(horizon=HORIZON, batches=batches, replications=REPLICATIONS, seed=40)
    return simulate_run(DIGITS, [entry], run).outcomes[0].record.reward[:, -1] / HORIZON


def agrees(values, expected, error):
    """Tell whether the mean of values (R,) agrees with an expected one of this standard error."""
    bound = 4 * np.sqrt(error**2 + values.var(ddof=1) / len(values))
    return abs(values.mean() - expected) <= bound


@pytest.mark.parametrize(("entry", "batches", "expected", "error"), REWARDS)
def test_reward_on_digits_agrees(entry, batches, expected, error):
    name, params = entry
    assert agrees(reward_per_step(name, batches, **params), expected, error)


def test_bounds_refuse_a_wrong_regret():
    """Negative controls: ties given to the first arm earn .52, a width of theory's size .32."""
    linucb = reward_per_step("linucb", EVERY_100, alpha=0.25)
    assert not agrees(linucb, 0.52, 0.004)
    ruinous = reward_per_step("lints", None, v=1.0)
    assert not agrees(ruinous, 0.769, 0.003)
    assert ruinous.mean() < 0.5
