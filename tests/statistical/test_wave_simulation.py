"""Campaigns simulated by wave have the law of the same campaigns simulated email by email."""

from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.special import ndtr

from bandits.registry import make
from simulations import ABTest, Feedback, simulate
from simulations.environments import Bernoulli
from simulations.environments.gaussian import Gaussian
from simulations.planning.forecast import ForecastAbandoned, _chance_above, forecast_plan
from simulations.planning.wave_simulation import (
    AnswerTimes,
    CampaignPlan,
    _order,
    _SentWave,
    simulate_policy,
    simulate_test,
)
from tests.conftest import SOAK
from tests.patience import LIMIT_SECONDS

N = 1000 if SOAK else 250
FAR = 4.0  # standard errors: a true law strays further once in 16,000 comparisons
SIZES = (1000,) * 6
RATES = (0.10, 0.14, 0.20)
VALUES, SDS = (1.0, 1.2, 1.5), (2.0, 1.0, 3.0)
FLOOR = 0.01


def plan(delay=1, *, valued=False):
    levels = tuple((k,) for k in range(3))
    if valued:
        return CampaignPlan(SIZES, delay, VALUES, SDS, -11.0, 14.0, levels, shuffled=False)
    return CampaignPlan(SIZES, delay, RATES, None, 0.0, 1.0, levels, shuffled=False)


@cache
def one_by_one(name, delay, *, valued=False):
    """Simulate email by email: what was earned beyond an equal split, (R,), and wrong winners."""
    world = Gaussian(VALUES, SDS, -11.0, 14.0) if valued else Bernoulli(RATES)
    entry = {"name": name, "floor": FLOOR, "label": "it"}
    result = simulate(
        world, [entry], horizon=sum(SIZES), batches=SIZES, delay=delay, replications=N, seed=3
    )
    means = VALUES if valued else RATES
    return result["it"].reward[:, -1] - sum(SIZES) * np.mean(means)


def apart(one, other):
    """How many standard errors two samples' means are apart."""
    spread = np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    return abs(one.mean() - other.mean()) / spread


def by_wave(name, campaign):
    rng = np.random.default_rng(11)
    return simulate_policy(campaign, make(name), FLOOR, N, rng)


@pytest.mark.parametrize("name", ["thompson", "ucb1", "lints", "epsilon_greedy"])
def test_wave_simulation_agrees_with_step_simulation(name):
    assert apart(by_wave(name, plan()).extra[:, -1], one_by_one(name, 1)) < FAR


def test_wave_simulation_of_values_agrees_with_step_simulation():
    name = "thompson_gaussian"
    course = by_wave(name, plan(valued=True))
    assert apart(course.extra[:, -1], one_by_one(name, 1, valued=True)) < FAR


def test_wave_simulation_with_another_delay_disagrees():
    assert apart(by_wave("thompson", plan(delay=3)).extra[:, -1], one_by_one("thompson", 1)) > FAR


def test_ab_test_by_wave_earns_and_errs_as_email_by_email():
    result = simulate(
        Bernoulli(RATES), [ABTest(share=0.03)], horizon=6000, batches=6, replications=N, seed=5
    )
    record = result.outcomes[0].record
    course = simulate_test(plan(), 0.03, 4000, np.random.default_rng(7))
    assert apart(course.extra[:, -1], record.reward[:, -1] - 6000 * np.mean(RATES)) < FAR
    assert apart(course.wrong, record.wrong) < FAR
    other = simulate_test(plan(), 0.5, 4000, np.random.default_rng(7))
    assert apart(other.wrong, record.wrong) > FAR, "a test of another size is found out"


def test_policy_that_cannot_learn_earns_what_an_equal_split_does():
    """With nothing known, every arm is as good; floors and draws change no mean."""
    campaign = replace(plan(delay=6), shuffled=True)
    extra = by_wave("thompson", campaign).extra[:, -1]
    assert abs(extra.mean()) < FAR * extra.std(ddof=1) / np.sqrt(N)
    learns = by_wave("thompson", replace(campaign, delay=0)).extra[:, -1]
    assert learns.mean() > FAR * learns.std(ddof=1) / np.sqrt(N)


def test_means_dealt_anew_change_no_arms_chances():
    campaign = replace(plan(), shuffled=True)
    fixed, dealt = (by_wave("thompson", c).extra[:, -1] for c in (plan(), campaign))
    assert apart(fixed, dealt) < FAR


def test_forecast_of_one_seed_is_the_same_and_can_be_given_up():
    one, two = (
        forecast_plan(
            plan(), make("thompson"), FLOOR, replications=100, seconds=LIMIT_SECONDS, seed=4
        )
        for _ in range(2)
    )
    assert one.replications == 100
    assert (one.policy.extra, one.test.extra) == (two.policy.extra, two.test.extra)
    few = forecast_plan(
        plan(), make("thompson"), FLOOR, replications=150, seconds=LIMIT_SECONDS, seed=4
    )
    assert few.replications == 150
    with pytest.raises(ForecastAbandoned):
        forecast_plan(plan(), make("thompson"), FLOOR, progress=lambda _: False)


def test_means_are_dealt_to_versions_by_what_their_parts_add():
    levels = tuple((i, j) for i in range(4) for j in range(3))
    means = tuple(np.linspace(0.1, 0.2, 12))
    campaign = CampaignPlan(SIZES, 0, means, None, 0.0, 1.0, levels, shuffled=True)
    dealt = np.array(means)[_order(campaign, 2000, np.random.default_rng(2))]
    assert np.sort(dealt, axis=1) == pytest.approx(np.tile(means, (2000, 1)))
    assert dealt.mean(axis=0) == pytest.approx(np.full(12, 0.15), abs=0.003)
    table = dealt.reshape(2000, 4, 3)
    main = table.mean(axis=2, keepdims=True) + table.mean(axis=1, keepdims=True) - 0.15
    explained = 1 - ((table - main) ** 2).sum() / ((table - 0.15) ** 2).sum()
    assert 0.75 < explained < 0.92  # and what of the rest looks like an effect of parts
    alone = replace(campaign, slot_levels=tuple((k,) for k in range(12)))
    one = np.array(means)[_order(alone, 2000, np.random.default_rng(2))].reshape(2000, 4, 3)
    assert np.corrcoef(one[:, 0, 0], one[:, 0, 1])[0, 1] < 0


LATE = {"maturity": 1500, "window": 4000.0, "medians": (400.0, 900.0, 1500.0), "sigma": 1.2}


def late_plan(*, valued=False):
    """Waves of 1,000 sent at once; silence counts after 1,500, so one more wave leaves before."""
    answers = AnswerTimes(gap=1000.0, lag=0.0, **LATE)
    return replace(plan(1, valued=valued), answers=answers)


def late_step_by_step(name):
    """Simulate email by email: the rate is of answers inside the window."""
    inside = ndtr(np.log(LATE["window"] / np.array(LATE["medians"])) / LATE["sigma"])
    feedback = Feedback(
        median=LATE["medians"],
        sigma=LATE["sigma"],
        maturity=LATE["maturity"],
        window=LATE["window"],
        at_once=True,
    )
    result = simulate(
        Bernoulli(tuple(np.array(RATES) / inside)),
        [{"name": name, "floor": FLOOR, "label": "it"}],
        horizon=sum(SIZES),
        batches=SIZES,
        feedback=feedback,
        replications=N,
        seed=3,
    )
    return result["it"].sends @ np.array(RATES) - sum(SIZES) * np.mean(RATES)


@pytest.mark.parametrize("name", ["thompson", "ucb1"])
def test_wave_simulation_of_late_answers_agrees_with_step_simulation(name):
    assert apart(by_wave(name, late_plan()).extra[:, -1], late_step_by_step(name)) < FAR


def test_wave_simulation_of_late_answers_differs_from_one_with_none():
    """The negative control: the comparison above sees what is late."""
    promised = by_wave("thompson", plan(1)).extra[:, -1]
    assert apart(promised, late_step_by_step("thompson")) > FAR


def test_ab_test_of_late_answers_ships_what_is_ahead_by_its_maturity():
    """The best version is the slowest: by maturity the others are ahead, and one is shipped."""
    campaign = replace(
        plan(), answers=replace(late_plan().answers, medians=(200.0, 200.0, 3900.0), maturity=300.0)
    )
    late = simulate_test(campaign, 0.5, 2000, np.random.default_rng(7))
    at_once = simulate_test(plan(), 0.5, 2000, np.random.default_rng(7))
    assert at_once.wrong == pytest.approx(late.wrong), "in the end all results are in"
    assert late.extra[:, -1].mean() < at_once.extra[:, -1].mean() - 50


def test_chance_above_is_that_of_all_pairs():
    one, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0])
    assert _chance_above(one, other) == pytest.approx((1 + 1.5 + 2) / 6)


def test_share_of_answers_is_that_of_a_law_cut_at_the_window():
    answers = late_plan().answers
    medians = np.array([400.0, 1500.0])
    assert answers.shares(medians, 0.0) == pytest.approx([0, 0])
    assert answers.shares(medians, 4000.0) == pytest.approx([1, 1])
    assert answers.shares(medians, 9000.0) == pytest.approx([1, 1])
    end = ndtr(np.log(4000 / medians) / 1.2)
    assert answers.shares(medians, 400.0)[0] == pytest.approx(0.5 / end[0])


def test_values_that_arrive_in_parts_have_the_moments_of_each_by_itself():
    """Of 1,000 sends of mean 2 and standard deviation 3, .3 arrive and then .45 of the rest."""
    rng = np.random.default_rng(4)
    shape = (20_000, 1)
    sent = np.full(shape, 1000)
    total = 2000 + 3 * np.sqrt(1000) * rng.standard_normal(shape)
    wave = _SentWave(sent, total, np.full(shape, 9000.0))
    wave.advance(np.full(shape, 0.3), rng, binary=False)
    wave.advance(np.full(shape, 0.6), rng, binary=False)
    assert wave.arrived.mean() == pytest.approx(0.6 * 2000, rel=0.001)
    assert wave.arrived.var() == pytest.approx(0.6 * 9000, rel=0.05)
    assert (wave.arrived + wave.rest) == pytest.approx(total)
    # A send's reward is 2 ± 3 with chance .6, else 0: its variance is .6 · 13 − 1.2².
    assert wave.scatter[0, 0] == pytest.approx(1000 * (0.6 * 13 - 1.44), rel=0.15)
