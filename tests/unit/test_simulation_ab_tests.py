"""A/B tests as procedures: their end, and the arm that they ship."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from bandits.errors import InvalidInput
from bandits.problem import Problem
from bandits.statistics import Moments
from simulations import ABTest, simulate
from simulations.ab_tests.procedures import (
    PROCEDURES,
    FixedHorizonTest,
    GroupSequentialTest,
    SuccessiveElimination,
)
from simulations.ab_tests.rotation import (
    EliminationRule,
    FixedHorizonRule,
    GroupSequentialRule,
    RotatingTest,
)
from simulations.environments import Bernoulli, Gaussian
from simulations.running.schedule import Run

RNG = np.random.default_rng(0)


def rates(successes, sent):
    """Moments of one replication after so many successes among those sent."""
    total, count = np.array([successes], dtype=float), np.array([sent], dtype=float)
    return Moments(count, total, total, np.zeros_like(count))


def stays_after(rule, successes, sent, look=1, racing=None):
    racing = np.ones((1, len(sent)), dtype=bool) if racing is None else np.array([racing])
    stays = rule.keep_arms(rates(successes, sent), racing, look, np.random.default_rng(0))
    return stays[0].tolist()


def test_a_test_splits_exactly_and_ships_its_best_mean():
    result = simulate(Bernoulli((0.1, 0.5)), [ABTest(share=0.25)], horizon=400, replications=50)
    record = result.outcomes[0].record
    assert (record.decided == 100).all()
    assert (record.sends.max(axis=1) == 350).all()
    assert (record.sends.min(axis=1) == 50).all()
    assert (record.wrong == (record.sends.argmax(axis=1) == 0)).all()


def test_tests_of_several_sizes_stand_beside_each_other_under_names_of_their_own():
    tests = [ABTest(), ABTest(share=0.25), ABTest(share=0.5)]
    result = simulate(Bernoulli((0.1, 0.5)), tests, horizon=40, replications=2)
    labels = [outcome.label for outcome in result.outcomes]
    assert labels == ["ab_test", "ab_test share=0.25", "ab_test share=0.5"]


def test_ties_are_shipped_in_equal_parts():
    result = simulate(Bernoulli((0.0, 0.0, 0.0)), [ABTest()], horizon=100, replications=600)
    shipped = (result.outcomes[0].record.sends > 50).mean(axis=0)
    assert np.abs(shipped - 1 / 3).max() < 4 * (2 / 9 / 600) ** 0.5


def test_a_test_does_not_look_before_its_end_and_not_after():
    test = RotatingTest(Problem.of(2), 1, FixedHorizonRule(), RNG)
    contexts = np.ones((1, 4, 1))
    test.begin(4, last=False)
    assert test.choose(contexts).tolist() == [[0, 1, 0, 1]]
    test.learn(test.send(np.array([[0, 1, 0, 1]]), np.array([[0.0, 1, 0, 1]]), contexts))
    assert np.isnan(test.sends_to_decision()).all()
    test.begin(4, last=True)
    assert test.choose(contexts).tolist() == [[1, 1, 1, 1]]
    assert test.send(np.ones((1, 4), dtype=int), np.zeros((1, 4)), contexts) is None
    assert test.sends_to_decision().tolist() == [4]


def test_significance_keeps_the_control_unless_it_is_beaten():
    assert stays_after(FixedHorizonRule(), [200, 210], [1000, 1000]) == [False, True]
    assert stays_after(FixedHorizonRule(0.05), [200, 210], [1000, 1000]) == [True, False]
    assert stays_after(FixedHorizonRule(0.05), [200, 260], [1000, 1000]) == [False, True]


def test_rates_are_compared_by_the_pooled_z_test_and_values_by_welchs():
    """2 of 20 against 8 of 20: by z p = .0285, by Welch p = .0298 (scipy's ttest_ind)."""
    pooled, welch = (FixedHorizonRule(0.029, rates=rates) for rates in (True, False))
    assert stays_after(pooled, [2, 8], [20, 20]) == [False, True]
    assert stays_after(welch, [2, 8], [20, 20]) == [True, False]
    assert stays_after(FixedHorizonRule(0.028, rates=True), [2, 8], [20, 20]) == [True, False]
    assert stays_after(FixedHorizonRule(0.030), [2, 8], [20, 20]) == [False, True]
    assert stays_after(FixedHorizonRule(0.4, rates=True), [0, 0], [20, 20])[0]


def test_a_small_test_of_rates_ships_the_arm_as_often_as_its_z_test_rejects():
    """Summed over the chances of all 22 × 22 outcomes. False alarm: 1 in 16,000."""
    test = FixedHorizonTest(lift=0.5, rate=0.1, power=0.95, ship="significant")
    size = test.size(2)
    wins = np.arange(size + 1)
    control, arm = np.meshgrid(wins / size, wins / size, indexing="ij")
    pooled = (control + arm) / 2
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / size, 1e-12))
    rejected = ((arm - control) / error > norm.isf(0.025)).astype(float)
    expected = binom.pmf(wins, size, 0.1) @ rejected @ binom.pmf(wins, size, 0.3)
    world = Bernoulli((0.1, 0.3))
    record = simulate(world, [test], horizon=3 * size, replications=4000).outcomes[0].record
    shipped = (record.wrong == 0).mean()
    assert abs(shipped - expected) < 4 * (expected * (1 - expected) / 4000) ** 0.5


def test_a_boundary_ends_the_test_where_the_best_beats_every_other():
    rule = GroupSequentialRule(barrier=4.56, looks=5)
    assert stays_after(rule, [200, 230], [1000, 1000], look=1) == [True, True]
    assert stays_after(rule, [200, 300], [1000, 1000], look=1) == [False, True]
    assert stays_after(rule, [200, 300, 299], [1000] * 3, look=1) == [True, True, True]
    assert stays_after(rule, [200, 201], [1000, 1000], look=5) == [False, True]


def test_elimination_drops_arms_surely_behind_and_no_other():
    rule = EliminationRule(delta=0.05, span=1.0)
    assert stays_after(rule, [200, 202, 100], [10_000] * 3) == [True, True, True]
    assert stays_after(rule, [2000, 2020, 1000], [10_000] * 3) == [True, True, False]
    assert stays_after(rule, [2000, 900], [10_000] * 2, racing=[True, False]) == [True, False]


def test_elimination_leaves_the_others_in_equal_parts():
    result = simulate(
        Bernoulli((0.1, 0.5, 0.9)),
        [SuccessiveElimination()],
        horizon=4000,
        batches=40,
        replications=20,
    )
    record = result["successive_elimination"]
    assert (record.wrong == 0).all()
    assert (record.decided < 4000).all()
    assert (np.diff(record.sends, axis=1) > 0).all()


TOO_LARGE = [
    {"name": "fixed_horizon_test", "params": {"lift": 0.001, "rate": 0.2}},
    {"name": "fixed_horizon_test", "params": {"lift": 0.001, "rate": 0.2, "ship": "significant"}},
    {"name": "group_sequential_test", "params": {"lift": 0.001, "rate": 0.2}},
    {"name": "group_sequential_test", "params": {"lift": 1e-12, "rate": 0.2}},
]


@pytest.mark.parametrize("entry", TOO_LARGE)
def test_a_test_too_large_for_the_campaign_never_ends_and_ships_nothing(entry):
    result = simulate(Bernoulli((0.2, 0.4)), [entry], horizon=1000, replications=5)
    record = result.outcomes[0].record
    assert (record.sends == 500).all()
    for answer in (record.decided, record.wrong, record.lost):
        assert np.isnan(answer).all()
    assert record.rate_after == pytest.approx([0.3] * 5)
    summary = result.summaries()[0]
    assert summary.needs == PROCEDURES[entry["name"]](**entry["params"]).planned_size(Problem.of(2))
    assert summary.needs > 2_000_000
    note = f"needs {summary.needs:,} decisions, the campaign has 1,000: it never ends, and ships"
    assert note in " ".join(repr(result).split())
    assert note in result._repr_html_()


def test_a_test_that_fits_says_nothing_of_its_size():
    test = FixedHorizonTest(lift=0.2, rate=0.2)
    fits = simulate(Bernoulli((0.2, 0.4)), [test], horizon=1000, replications=5)
    assert fits.summaries()[0].needs is None
    assert "needs" not in repr(fits)


def test_a_test_that_may_end_early_ships_nothing_where_the_campaign_was_too_short_for_it():
    test = GroupSequentialTest(lift=0.1, rate=0.2)
    horizon = test.planned_size(Problem.of(2)) * 3 // 5  # a look is at its very end
    result = simulate(Bernoulli((0.2, 0.3)), [test], horizon=horizon, replications=200)
    record = result.outcomes[0].record
    ended = ~np.isnan(record.decided)
    assert 0.1 < ended.mean() < 0.9
    assert {*record.decided[ended]} == {horizon * 2 // 3, horizon}
    assert (np.isnan(record.wrong) == ~ended).all()
    assert np.isfinite(record.rate_after).all()
    assert "where it has not ended before, it ships nothing" in " ".join(repr(result).split())


@pytest.mark.parametrize("ship", ["best", "significant"])
def test_a_test_as_large_as_the_campaign_is_read_at_its_end(ship):
    """Of equal arms, one in forty beats the control significantly: see `tests/statistical`."""
    test = FixedHorizonTest(lift=0.1, rate=0.2, ship=ship)
    size = test.planned_size(Problem.of(2))
    result = simulate(Bernoulli((0.2, 0.19)), [test], horizon=size, replications=200)
    record = result.outcomes[0].record
    assert (record.decided == size).all()
    assert record.wrong.mean() > 0 if ship == "best" else record.wrong.mean() < 0.05
    assert result.summaries()[0].needs is None


def test_a_test_on_everybody_ships_its_winner_after_the_campaign():
    result = simulate(Bernoulli((0.1, 0.9)), [ABTest(share=1.0)], horizon=100, replications=20)
    record = result.outcomes[0].record
    assert (record.sends == 50).all()
    assert (record.decided == 100).all()
    assert (record.rate_after == 0.9).all()


def test_share_above_one_is_refused_at_its_place():
    entry = {"name": "ab_test", "params": {"share": 1.01}}
    with pytest.raises(InvalidInput) as error:
        simulate(Bernoulli((0.2, 0.4)), ["thompson", entry], horizon=100)
    assert error.value.faults[0].pointer == "/policy/1/params/share"


def test_looks_are_where_the_design_puts_them():
    test = GroupSequentialTest(lift=0.02, rate=0.2, looks=4)
    ends = test.schedule(Run(horizon=10**6), Problem.of(2)).ends
    assert len(ends) == 5
    assert set(np.diff(ends[:4])) == {ends[0]}


def test_values_are_tested_with_their_own_spread():
    test = FixedHorizonTest(lift=0.5, sd=2.0, ship="significant")
    result = simulate(Gaussian((1.0, 1.5), sd=2.0), [test], horizon=5000, replications=400)
    found = 1 - result.outcomes[0].record.wrong.mean()
    assert abs(found - 0.8) < 4 * (0.8 * 0.2 / 400) ** 0.5


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: FixedHorizonTest(lift=0.1), "/rate"),
        (lambda: FixedHorizonTest(lift=0.1, rate=0.2, sd=1.0), "/rate"),
        (lambda: FixedHorizonTest(lift=0.9, rate=0.2), "/lift"),
        (lambda: GroupSequentialTest(lift=0.1, rate=0.2, looks=0), "/looks"),
        (lambda: SuccessiveElimination(delta=0.0), "/delta"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make, pointer):
    with pytest.raises(InvalidInput) as error:
        make()
    assert error.value.faults[0].pointer == pointer
