"""The plan that the form simulates, beside campaigns of it that are simulated email by email.

For each plan: the 90 % range of what it promises holds in at least 80 % of campaigns, and is at
most twice as wide as the middle 90 % of these. Plans are typed as on the page; campaigns have the
delays that it says, also where the form cannot say them (two peaks).

The negative control is the promise that takes all results to be in at once: for the plan whose
better version is answered late it holds in no campaign.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.special import ndtr

from simulations import Feedback, simulate
from simulations.environments import Bernoulli
from simulations.planning.forecast import forecast_plan
from tests.conftest import SOAK
from webapp.pages.form import form_model
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.plan import campaign_plan, read_plan

CAMPAIGNS = 200 if SOAK else 30
REPLICATIONS = 1000 if SOAK else 120
HOUR = 3600.0


class TypedCase(NamedTuple):
    """Fields of the page, and the delays of the campaigns that follow."""

    fields: dict[str, str]
    maturity: float  # hours
    rates: tuple[float, ...]
    medians: tuple[float, ...]  # hours
    sigma: float = 1.2
    slow: tuple[float, float] | None = None


def typed(emails, hours, waves, rates, halves):
    fields = {
        "plan/emails": str(emails),
        "plan/over/amount": str(hours),
        "plan/over/unit": "hours",
        "plan/waves": str(waves),
        "plan/half/unit": "hours",
    }
    for i, rate in enumerate(rates):
        fields[f"plan/rates/{i}"] = str(100 * rate)
    if isinstance(halves, tuple):
        return fields | {f"plan/halves/{i}": str(half) for i, half in enumerate(halves)}
    return fields | {"plan/half/amount": str(halves)}


PAIR, FIVE = (0.20, 0.22), (0.20, 0.18, 0.21, 0.22, 0.24)
CASES = {
    "fast": TypedCase(typed(50_000, 240, 24, PAIR, 1), 24, PAIR, (1, 1)),
    "slow": TypedCase(typed(100_000, 48, 48, PAIR, 4), 2, PAIR, (4, 4)),
    "better is slow": TypedCase(typed(100_000, 48, 48, PAIR, (2, 9)), 2, PAIR, (2, 9)),
    "better is fast": TypedCase(typed(100_000, 48, 48, PAIR, (9, 2)), 6, PAIR, (9, 2)),
    "two peaks": TypedCase(
        typed(100_000, 60, 20, FIVE, 3.6), 30, FIVE, (2,) * 5, sigma=0.6, slow=(0.4, 24)
    ),
    "small list": TypedCase(typed(3_000, 240, 10, FIVE, 4), 24, FIVE, (4,) * 5),
}
REDUCED = ("fast", "better is slow", "two peaks", "small list")


def plan_of(case):
    form = form_model.new_form(form_model.TypedDraft)
    plan = form_model.read_fields(list(case.fields.items()), form_model.TypedDraft).plan
    (slot,) = form.slots
    subjects = [replace(slot.variants[0], text=f"Subject {i}") for i in range(len(case.rates))]
    form = replace(
        form,
        name="Spring",
        key="spring",
        slots=(replace(slot, variants=tuple(subjects)),),
        window=form_model.TypedDuration("72", "hours"),
        maturity=form_model.TypedDuration(str(case.maturity), "hours"),
        holdout="0",
        plan=plan,
    )
    return read_plan(form, parse_experiment(form))


@cache
def campaigns_of(name):
    """Simulate the plan email by email: what it earns beyond an equal split, (R,)."""
    case = CASES[name]
    plan = plan_of(case)
    per_hour = plan.emails / (plan.seconds / HOUR)
    medians = np.array(case.medians)
    inside = ndtr(np.log(72 / medians) / case.sigma)
    if case.slow:
        share, median = case.slow
        inside = (1 - share) * inside + share * ndtr(np.log(72 / median) / case.sigma)
    feedback = Feedback(
        median=tuple(medians * per_hour),
        sigma=case.sigma,
        slow=case.slow[0] if case.slow else 0.0,
        slow_median=case.slow[1] * per_hour if case.slow else None,
        maturity=plan.reward_delay / HOUR * per_hour,
        window=72 * per_hour,
        at_once=True,
    )
    rates = np.array(case.rates)
    result = simulate(
        Bernoulli(tuple(rates / inside)),
        [{"name": plan.experiment.policy.name, "floor": plan.floor, "label": "it"}],
        horizon=plan.emails,
        batches=plan.waves,
        feedback=feedback,
        replications=CAMPAIGNS,
        seed=5,
    )
    return result["it"].sends @ rates - plan.emails * rates.mean()


def promise_of(plan, campaign):
    forecast = forecast_plan(
        campaign,
        plan.experiment.make_policy(),
        plan.floor,
        replications=REPLICATIONS,
        seconds=600.0,
    )
    return forecast.policy.low, forecast.policy.high


@pytest.mark.parametrize("name", CASES if SOAK else REDUCED)
def test_promise_of_a_plan_holds(name):
    case = CASES[name]
    plan = plan_of(case)
    low, high = promise_of(plan, campaign_plan(plan))
    earned = campaigns_of(name)
    holds = (earned >= low) & (earned <= high)
    spread = np.quantile(earned, 0.95) - np.quantile(earned, 0.05)
    assert holds.mean() >= 0.8
    assert high - low <= 2 * spread


def test_promise_of_results_that_are_in_at_once_does_not_hold():
    case = CASES["better is slow"]
    plan = plan_of(case)
    low, high = promise_of(plan, replace(campaign_plan(plan), answers=None))
    earned = campaigns_of("better is slow")
    assert ((earned >= low) & (earned <= high)).mean() < 0.05
