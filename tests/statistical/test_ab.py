"""Bandits against A/B tests: the table that the product's promise rests on.

A mean over R replications with standard deviation sd agrees with an expected value of standard
error SE when they differ by at most 4·sqrt(SE² + sd²/R): a false alarm in 16,000 for each
comparison. Reduced, R is 150, and the bound is wider as it follows.
"""

import numpy as np
import pytest

from simulations import ABTest, Result, simulate
from simulations.environments import Bernoulli
from tests.conftest import SOAK

EMAIL5 = Bernoulli((0.20, 0.18, 0.21, 0.22, 0.24))  # the control first
REPLICATIONS = 1000 if SOAK else 150
POWERED = 5 * 9249 / 100_000  # .20 v .22, α .0125, power .8: 9,249 an arm

TEN_WAVES = [
    # label, entry, regret, its SE, p95, wrong winner
    ("uniform", {"name": "uniform"}, 3000, 0.3, 3000, 0.0),
    ("A/B on 10 %", {"name": "ab_test", "params": {"share": 0.1}}, 425, 15, 2100, 0.064),
    ("A/B on 20 %", {"name": "ab_test", "params": {"share": 0.2}}, 631, 7, 600, 0.019),
    ("powered A/B", {"name": "ab_test", "params": {"share": POWERED}}, 1387, 0.5, 1387, 0.0),
    ("TS", {"name": "thompson"}, 363, 2, 468, 0.0),
    ("TS, floor", {"name": "thompson", "floor": 0.01}, 495, 2, 604, 0.0),
]


def agrees(values, expected, error):
    """Tell whether the mean of values (R,) agrees with an expected one of this standard error."""
    bound = 4 * np.sqrt(error**2 + values.var(ddof=1) / len(values))
    return abs(values.mean() - expected) <= bound


def regret(result: Result, label: str):
    return result[label].regret[:, -1]


@pytest.fixture(scope="module")
def ten_waves() -> Result:
    entries = [{**entry, "label": label} for label, entry, *_ in TEN_WAVES]
    return simulate(
        EMAIL5, entries, horizon=100_000, batches=10, replications=REPLICATIONS, seed=20
    )


@pytest.mark.parametrize("row", TEN_WAVES, ids=lambda row: row[0])
def test_regret_in_ten_waves_agrees(ten_waves, row):
    label, _, expected, error, _, _ = row
    assert agrees(regret(ten_waves, label), expected, error)


@pytest.mark.parametrize("row", TEN_WAVES, ids=lambda row: row[0])
def test_regret_exceeded_by_one_in_twenty_agrees(ten_waves, row):
    """By the binomial law of how many exceed it: they are R/20, within four standard deviations.

    Where regret takes few values, as an A/B test's does, the p95 is one of them, and only sides
    with a margin can be counted.
    """
    label, _, _, _, p95, _ = row
    values = regret(ten_waves, label)
    four = 4 * np.sqrt(0.05 * 0.95 * len(values))
    assert (values > p95 * 1.02).sum() <= 0.05 * len(values) + four
    assert (values > p95 * 0.98).sum() >= 0.05 * len(values) - four


@pytest.mark.parametrize("row", TEN_WAVES, ids=lambda row: row[0])
def test_wrong_winner_rate_agrees(ten_waves, row):
    label, _, _, _, _, wrong = row
    actual = ten_waves[label].wrong
    rate = max(wrong, 0.002)  # "0" was seen in 1,000 replications
    bound = 4 * np.sqrt(rate * (1 - rate) * (1 / 1000 + 1 / len(actual)))
    assert abs(actual.mean() - wrong) <= bound + 1 / len(actual)


def test_late_feedback_costs_what_it_should():
    result = simulate(
        EMAIL5,
        ["thompson"],
        horizon=100_000,
        batches=10,
        delay=3,
        replications=REPLICATIONS,
        seed=21,
    )
    values = regret(result, "thompson")
    assert agrees(values, 1268, 3)
    four = 4 * np.sqrt(0.05 * 0.95 * len(values))
    assert abs((values > 1434).sum() - 0.05 * len(values)) <= four + 0.02 * len(values)


def test_ab_test_wins_in_two_waves():
    result = simulate(
        EMAIL5,
        [ABTest(share=0.1), "thompson"],
        horizon=100_000,
        batches=2,
        replications=REPLICATIONS,
        seed=22,
    )
    assert agrees(regret(result, "ab_test"), 452, 17)
    assert agrees(regret(result, "thompson"), 1508, 1)


def test_bounds_refuse_a_wrong_regret(ten_waves):
    """Negative controls: each of these is a mistake that the tests above are there to find."""
    for label, other in [
        ("A/B on 20 %", 1387),  # another share
        ("TS", 495),  # a floor that should not be there
        ("TS, floor", 363),  # a floor that is forgotten
        ("uniform", 1387),
    ]:
        assert not agrees(regret(ten_waves, label), other, 15)
    sloppy = simulate(  # a test on 2 % ships the wrong arm too often
        EMAIL5,
        [ABTest(share=0.02)],
        horizon=100_000,
        batches=10,
        replications=REPLICATIONS,
        seed=23,
    )
    assert not agrees(regret(sloppy, "ab_test share=0.02"), 425, 15)
    assert abs(sloppy["ab_test share=0.02"].wrong.mean() - 0.064) > 0.1
