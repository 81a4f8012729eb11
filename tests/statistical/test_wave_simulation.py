"""Campaigns simulated by wave have the law of the same campaigns simulated email by email."""

from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace

from bandits.registry import make
from simulations import ABTest, simulate
from simulations.environments import Bernoulli
from simulations.environments.gaussian import Gaussian
from simulations.planning.forecast import ForecastAbandoned, forecast_plan
from simulations.planning.wave_simulation import CampaignPlan, simulate_policy, simulate_test
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
