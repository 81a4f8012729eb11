"""Guardrails pause without cause in at most 5 % of campaigns, ever, and soon where there is one.

Each world has its rates at what the guardrail just allows, or below: the worst that is no cause.
The negative controls are fixed thresholds, as senders use them, and bets that do not weigh.
"""

import sys

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import binom

from bandits.inference.guardrail_evidence import FALSE_ALARMS
from tests.conftest import SOAK
from tests.statistical.guardrail_campaigns import (
    GuardedCampaigns,
    GuardedWorld,
    avoiding,
    chasing,
    equal,
    narrowing,
    uneven,
)

REPLICATIONS = 1000 if SOAK else 40
FALSE_ALARM = 1e-4  # of each test here
DAY = 24


def steady(rate, control=0.0025):
    return lambda _hour: np.array([control, *[rate] * 4])


def weekly(hour):
    """Up to the limit on weekdays, far below at weekends."""
    return steady(0.003 if hour // DAY % 7 < 5 else 0.0005)(hour)


def rising(high):
    """Low rates for two weeks, then high ones."""
    return lambda hour: steady(0.0005 if hour < 14 * DAY else high, 0.0005)(hour)


def shared(hour):
    """Rates that move together, twice those of the control."""
    control = 0.002 if hour // DAY % 7 < 5 else 0.006
    return steady(2 * control, control)(hour)


CLEAN = {
    "at the limit, equal shares": GuardedWorld(steady(0.003), equal),
    "at the limit, shares that move": GuardedWorld(steady(0.003), narrowing, delay=12),
    "at the limit, chasing the worst": GuardedWorld(steady(0.003), chasing, every=4),
    "just below it, dropping the best": GuardedWorld(steady(0.0025), avoiding, delay=12),
    "weekdays at the limit, 3 days late": GuardedWorld(weekly, equal, delay=72),
    "bounces at their limit of 1 %": GuardedWorld(steady(0.01), equal, limit=0.01),
    "few emails, at the limit": GuardedWorld(steady(0.003), narrowing, emails=40),
}
COMPARED = {
    "twice the control, equal shares": GuardedWorld(steady(0.005), equal, limit=None),
    "twice the control, hardly any control": GuardedWorld(steady(0.005), uneven, limit=None),
    "twice the control, shares that move": GuardedWorld(shared, narrowing, limit=None),
    "twice the control, 12 hours late": GuardedWorld(steady(0.005), uneven, delay=12, limit=None),
}
FOUND = {  # median days until it is found, at most
    "3.3 × the limit after two weeks": (GuardedWorld(rising(0.01), equal, every=1), 14, 0.75),
    "2 × the limit after two weeks": (GuardedWorld(rising(0.006), equal), 14, 2.5),
    "3.3 × the limit from the start": (GuardedWorld(steady(0.01), equal, every=1, days=7), 0, 0.75),
    "2 × the limit from the start": (GuardedWorld(steady(0.006), equal, days=14), 0, 2.5),
    "2 × the limit, 12 hours late": (GuardedWorld(steady(0.006), equal, days=14, delay=12), 0, 3.0),
    "4 × the control for a limit of 2 ×": (
        GuardedWorld(steady(0.01), equal, days=14, limit=None),
        0,
        2.5,
    ),
}


def campaigns(world):
    return GuardedCampaigns(world, REPLICATIONS, np.random.default_rng(20_261_201)).run()


def most(share):
    """The largest number of campaigns that chance explains where the share is as said."""
    return binom.ppf(1 - FALSE_ALARM, REPLICATIONS, share)


@pytest.mark.parametrize("name", [*CLEAN, *COMPARED])
def test_guardrails_rarely_pause_without_cause(name, capsys):
    world = (CLEAN | COMPARED)[name]
    guarded = campaigns(world)
    acted = ~np.isnan(guarded.acted).all(axis=1)
    line = f"{name:40} any pause {acted.mean():6.3f}"
    if world.limit is not None:
        fixed = ~np.isnan(guarded.by_rules[:, 1:])
        line += f"   fixed thresholds: {fixed.mean():6.3f} of clean versions"
    with capsys.disabled():
        sys.stdout.write(f"\n{line}")
    assert acted.sum() <= most(FALSE_ALARMS)


@pytest.mark.parametrize("name", FOUND)
def test_guardrails_find_what_passes_its_limit(name, capsys):
    world, since, days = FOUND[name]
    guarded = campaigns(replace(world, days=max(world.days, since + 10)))
    after = guarded.acted[:, 1:] / DAY - since
    found = np.where(np.isnan(after), np.inf, after)
    middle, late = np.quantile(found, [0.5, 0.9], method="higher")
    with capsys.disabled():
        sys.stdout.write(f"\n{name:40} {middle:5.2f} days (median), {late:5.2f} (9 of 10)")
    assert middle <= days
    assert (found < 10).mean() >= 0.99


def test_fixed_thresholds_pause_nearly_every_clean_version():
    guarded = campaigns(GuardedWorld(steady(0.0025), equal))
    assert (~np.isnan(guarded.by_rules[:, 1:])).mean() > 0.95
    assert np.isnan(guarded.acted).mean() > 0.95


def test_bets_that_do_not_weigh_by_shares_err():
    world = COMPARED["twice the control, hardly any control"]
    guarded = campaigns(replace(world, weighs=False))
    assert (~np.isnan(guarded.acted).all(axis=1)).sum() > most(FALSE_ALARMS)
