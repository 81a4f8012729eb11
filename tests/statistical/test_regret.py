"""Regret of policies on instances whose values are known.

A mean over R replications with standard deviation sd agrees with an expected value of standard
error SE when they differ by at most 4·sqrt(SE² + sd²/R): a false alarm in 16,000 for each
comparison. Thompson sampling's regret is heavy-tailed; reduced, R is smaller and the bound, from
the sample's own sd, is wider as it follows.
"""

import numpy as np
import pytest

from simulations.environments import Bernoulli, DriftingRates
from simulations.running.schedule import Run
from simulations.simulate import simulate_run
from tests.conftest import SOAK

TWO = Bernoulli((0.9, 0.8))
EMAIL5 = Bernoulli((0.18, 0.20, 0.21, 0.22, 0.24))

BY_DECISION = [
    (TWO, 5000, {"name": "ucb1"}, 64.52, 0.20),
    (TWO, 5000, {"name": "ucb_tuned"}, 15.72, 0.22),
    (TWO, 5000, {"name": "kl_ucb"}, 12.82, 0.20),
    (TWO, 5000, {"name": "bayes_ucb"}, 9.86, 0.24),
    (TWO, 5000, {"name": "thompson"}, 9.42, 0.22),
    (EMAIL5, 20_000, {"name": "ucb1"}, 382.4, 1.3),
    (EMAIL5, 20_000, {"name": "ucb_tuned"}, 152.5, 1.9),
    (EMAIL5, 20_000, {"name": "kl_ucb"}, 183.5, 3.3),
    (EMAIL5, 20_000, {"name": "thompson"}, 125.9, 2.6),
]

# Garivier and Moulines (2011): the third arm is the best for a while.
DRIFT = DriftingRates(((0.5, 0.3, 0.4), (0.5, 0.3, 0.9), (0.5, 0.3, 0.4)), at=(3000, 5000))
IN_DRIFT = [
    ({"name": "ucb1"}, 605, 1),
    ({"name": "thompson"}, 772, 2),
    ({"name": "thompson", "forgetting": {"half_life": 276.9}}, 271, 1),  # γ = .9975
    ({"name": "thompson", "forgetting": {"window": 1000}}, 242, 1),
    ({"name": "ucb1", "params": {"w": 0.5}, "forgetting": {"window": 1214}}, 280.5, 3),
    ({"name": "ucb1", "forgetting": {"window": 1214}}, 432, 2),
]

# batches, delay, settings, regret, its SE: email5, 100,000 recipients, Thompson
RAMP = (1000, 2000, 4000, 8000, 16_000, 32_000, 37_000)
SHORT_RAMP = (3000, 12_000, 85_000)
IN_BATCHES = [
    (100, 0, {}, 178, 5),
    (20, 0, {}, 251, 5),
    (10, 0, {}, 368, 5),
    (5, 0, {}, 640, 4),
    (2, 0, {}, 1510, 2),
    (100, 1, {}, 208, 7),
    (100, 5, {}, 306, 6),
    (100, 20, {}, 750, 7),
    (RAMP, 0, {}, 245, 4),
    (RAMP, 0, {"greedy_last_batch": True}, 227, 4),
    (SHORT_RAMP, 0, {}, 456, 11),
    (SHORT_RAMP, 0, {"greedy_last_batch": True}, 295, 13),
]
if SOAK:  # a hundred million decisions, one by one
    IN_BATCHES.append((None, 0, {}, 188, 10))


def agrees(values, expected, error):
    """Tell whether the mean of values (R,) agrees with an expected one of this standard error."""
    bound = 4 * np.sqrt(error**2 + values.var(ddof=1) / len(values))
    return abs(values.mean() - expected) <= bound


def regret(environment, entry, run):
    return simulate_run(environment, [entry], run).outcomes[0].record.regret[:, -1]


@pytest.mark.parametrize(("environment", "horizon", "entry", "expected", "error"), BY_DECISION)
def test_regret_learning_after_every_decision_agrees(environment, horizon, entry, expected, error):
    reduced = 40 if entry["name"] == "kl_ucb" else 100  # its index costs most
    run = Run(horizon=horizon, replications=1000 if SOAK else reduced, seed=30)
    assert agrees(regret(environment, entry, run), expected, error)


@pytest.mark.parametrize(("batches", "delay", "settings", "expected", "error"), IN_BATCHES)
def test_regret_in_batches_late_and_on_a_ramp_agrees(batches, delay, settings, expected, error):
    reduced = 60 if batches == 100 else 150
    run = Run(
        horizon=100_000,
        batches=batches,
        delay=delay,
        replications=1000 if SOAK else reduced,
        seed=31,
    )
    assert agrees(regret(EMAIL5, {"name": "thompson", **settings}, run), expected, error)


@pytest.mark.parametrize(("batches", "expected", "naive"), [(100, 1079, 1161), (10, 1081, 1721)])
def test_waves_are_shared_by_the_sends_to_come(batches, expected, naive):
    """UCB1's shares count what is on its way; a plain argmax gives a wave to one arm."""
    run = Run(horizon=100_000, batches=batches, replications=1000 if SOAK else 100, seed=33)
    values = regret(EMAIL5, "ucb1", run)
    assert agrees(values, expected, 2)
    assert not agrees(values, naive, 2)


@pytest.mark.parametrize(("entry", "expected", "error"), IN_DRIFT)
def test_regret_where_the_best_arm_changes_agrees(entry, expected, error):
    run = Run(horizon=10_000, replications=1000 if SOAK else 40, seed=36)
    assert agrees(regret(DRIFT, entry, run), expected, error)


MISTAKES = [
    # a prior that is not the one meant, a width, feedback that comes a batch late
    (EMAIL5, {"prior_successes": 50.0, "prior_failures": 50.0}, {"horizon": 20_000}, 125.9, 2.6),
    (EMAIL5, {}, {"horizon": 100_000, "batches": 10, "delay": 1}, 368, 5),
]


@pytest.mark.parametrize(("environment", "params", "run", "expected", "error"), MISTAKES)
def test_bounds_refuse_a_wrong_regret(environment, params, run, expected, error):
    """Negative controls: mistakes that the tests above are there to find."""
    entry = {"name": "thompson", "params": params}
    values = regret(environment, entry, Run(replications=100, seed=34, **run))
    assert not agrees(values, expected, error)


def test_bounds_refuse_a_wrong_width():
    entry = {"name": "ucb1", "params": {"w": 0.5}}
    values = regret(TWO, entry, Run(horizon=5000, replications=100, seed=35))
    assert not agrees(values, 64.52, 0.20)
