"""When tests stop: planned errors of planned tests, and Scott's published example.

Shares of R replications agree with a planned one within four binomial standard deviations, a false
alarm in 16,000 for each comparison; guarantees ("at most") are checked on one side.
"""

import numpy as np
from scipy.stats import norm

from simulations import ABTest, simulate
from simulations.ab_tests.power import obrien_fleming, staying_chance
from simulations.ab_tests.procedures import (
    FixedHorizonTest,
    GroupSequentialTest,
    SuccessiveElimination,
)
from simulations.environments import Bernoulli
from simulations.running.delays import Feedback
from tests.conftest import SOAK

REPLICATIONS = 4000 if SOAK else 600
SLOW = 60 if SOAK else 12  # of hourly folds, which take long


def four_deviations(share):
    return 4 * np.sqrt(share * (1 - share) / REPLICATIONS)


def stopped(rates, test, horizon=60_000):
    return (
        simulate(
            Bernoulli(rates),
            [test],
            horizon=horizon,
            batches=50,
            replications=REPLICATIONS,
            seed=50,
        )
        .outcomes[0]
        .record
    )


def test_a_planned_test_ships_an_equal_arm_as_often_as_its_level_says():
    """Two-sided level .05: the arm beats the control significantly in .025 of A/A tests."""
    test = FixedHorizonTest(lift=0.03, rate=0.2, ship="significant")
    shipped = stopped((0.2, 0.2), test, 20_000).sends[:, 1] > 10_000
    assert abs(shipped.mean() - 0.025) <= four_deviations(0.025)


def test_a_planned_test_finds_its_lift_with_its_power():
    test = FixedHorizonTest(lift=0.03, rate=0.2, ship="significant")
    shipped = 1 - stopped((0.2, 0.23), test, 20_000).wrong
    assert abs(shipped.mean() - 0.8) <= four_deviations(0.8)


def test_a_group_sequential_test_ends_early_in_a_tests_as_often_as_its_level_says():
    """Of its level of .05, the boundary spends this much before the last of its five looks.

    What it spends is integrated from the normal walk; here the tests themselves are counted.
    """
    spent = 1 - staying_chance(obrien_fleming(5, 0.05, 0.8).barrier, 0.0, 4)
    test = GroupSequentialTest(lift=0.03, rate=0.2)
    record = stopped((0.2, 0.2), test, 20_000)
    early = record.decided < record.decided.max()
    assert abs(early.mean() - spent) <= four_deviations(spent)


def test_a_group_sequential_test_is_shorter_where_there_is_much_to_find():
    test = GroupSequentialTest(lift=0.03, rate=0.2)
    fixed = FixedHorizonTest(lift=0.03, rate=0.2)
    group, planned = (stopped((0.2, 0.26), t, 20_000).decided.mean() for t in (test, fixed))
    assert group < 0.7 * planned


def test_successive_elimination_drops_the_best_arm_more_seldom_than_promised():
    record = stopped((0.5, 0.5, 0.6), SuccessiveElimination(delta=0.2), 20_000)
    assert (record.wrong * ~np.isnan(record.decided)).mean() <= 0.2
    assert np.isnan(record.decided).mean() < 0.5


def test_scotts_bandit_saves_the_days_that_he_published():
    """Two versions at .04 and .05, 100 a day, against the classical 22,332 in 223 days."""
    entry = {"name": "thompson", "label": "scott", "stop": {"remaining": 0.01, "after": 1400}}
    replications = 500 if REPLICATIONS > 1000 else 50
    result = simulate(
        Bernoulli((0.04, 0.05)),
        ["uniform", entry],
        horizon=22_332,
        batches=[100] * 223 + [32],
        replications=replications,
        seed=51,
    )
    record = result["scott"]
    days = np.where(np.isnan(record.decided), 22_332, record.decided) / 100
    days_error = days.std(ddof=1) / np.sqrt(replications)
    assert 165 - 4 * days_error <= 223 - days.mean() <= 188 + 4 * days_error
    assert 1 - record.wrong.mean() >= 0.94 - 4 * np.sqrt(0.94 * 0.06 / replications)
    saved = result["uniform"].regret[:, -1] - record.regret[:, -1]
    saved_error = saved.std(ddof=1) / np.sqrt(replications)
    assert 84 - 4 * saved_error <= saved.mean() <= 102 + 4 * saved_error


def test_fold_before_slow_rewards_misleads_and_after_them_does_not():
    """The better arm's successes come in slowly: .39 of them by maturity, the other's .88.

    Those that come later are lost in the first case, as where nobody corrects, so that the worse
    arm looks better for ever; a negative control for whoever counts silence as zero at once.
    """
    slow = {"median": (309.0, 1322.0), "sigma": 1.0}
    lost, waited = (
        simulate(
            Bernoulli((0.20, 0.22)),
            ["thompson", ABTest()],
            horizon=100_000,
            batches=100,
            feedback=Feedback(**slow, maturity=maturity, window=window),
            replications=60,
            seed=52,
        )
        for maturity, window in ((1000.0, 1000.0), (20_000.0, 20_000.0))
    )
    assert lost["thompson"].wrong.mean() > 0.95
    assert lost["thompson"].regret[:, -1].mean() > 1644
    assert lost["ab_test"].wrong.mean() > 0.95
    assert waited["thompson"].wrong.mean() < 0.05
    assert waited["thompson"].regret[:, -1].mean() < 435


def test_slow_rewards_cost_what_they_should_with_a_day_and_with_a_week_of_maturity():
    """Three weeks, learning every hour, by the engine's own maturity and window.

    Of .20 a share of .88 is in within a day, of .22 one of .39; a delay's logarithm has a standard
    deviation of 1. Expected are 1644 of 2000 at maturity, and 435 when the window has closed.
    """
    hours = 21 * 24
    day = 100_000 / 21
    at_maturity, at_the_end = (
        simulate(
            Bernoulli((0.20, 0.22)),
            ["thompson"],
            horizon=100_000,
            batches=hours,
            feedback=Feedback(
                median=tuple((day * np.exp(-norm.ppf([0.88, 0.39]))).tolist()),
                maturity=waits,
                window=7 * day,
            ),
            replications=SLOW,
            seed=53,
        )["thompson"].regret[:, -1]
        for waits in (day, 7 * day)
    )
    for regret, expected in ((at_maturity, 1644), (at_the_end, 435)):
        assert abs(regret.mean() - expected) <= 4 * regret.std(ddof=1) / np.sqrt(SLOW)
