"""Whether verdicts keep their promise over whole campaigns, and are not silent either.

A verdict *errs* in a campaign when at any look it advises what the truth of that day speaks
against. With R campaigns and a true error of at most α, the number that err exceeds `_most(R, α)`
with probability at most 1e-4: that is each test's false-alarm rate; power falls below `_least(R,
p)` as rarely. The rule that pages followed before (better than every other on average, or little to
lose, after a week) is the negative control: in the same campaigns it errs. `measure_claims`
counts both in all worlds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import binom

from bandits.array_types import BoolArray
from bandits.inference.estimates import EstimationContext, lifts, values
from bandits.inference.intervals import ALPHA, Family, Finding
from bandits.verdict import LITTLE
from tests.calibration.worlds import Judged, Look, World, judge, looks, one_of
from tests.conftest import SOAK

CAMPAIGNS = 300 if SOAK else 40
FALLING_CAMPAIGNS = 500 if SOAK else 60
FALSE_ALARM = 1e-4
WEEK = 7


def _falling(first: float, last: float, daily: int, *others: float, floor: float = 0.10) -> World:
    """Make a world in which the second version falls in 60 days, beside a steady .20 and others."""
    return World(lambda day: [[0.20, first + (last - first) * day / 59, *others]], 60, daily, floor)


# Each with the share of campaigns that stop in its time, at least.
FALLING_IN_FULL = {
    "1,000 a day": (_falling(0.25, 0.17, 1_000), 0.85),
    "500 a day": (_falling(0.25, 0.17, 500), 0.6),
    "2,000 a day": (_falling(0.25, 0.17, 2_000), 0.95),
    "4,000 a day": (_falling(0.25, 0.17, 4_000), 0.95),
    "1,000 a day, floor 5 %": (_falling(0.25, 0.17, 1_000, floor=0.05), 0.5),
    "slowly": (_falling(0.23, 0.19, 2_000), 0.8),
    "fast": (_falling(0.25, 0.09, 1_000), 0.75),
    "five versions": (_falling(0.25, 0.17, 3_000, 0.19, 0.18, 0.20, floor=0.05), 0.6),
}
FALLING = FALLING_IN_FULL if SOAK else {"1,000 a day": FALLING_IN_FULL["1,000 a day"]}
FALLING_DAYS = (9, 13, 17, 21, 25, 29, 33, *range(37, 60, 3))  # reduced; B is worse from 37 on
# Each with the share of campaigns that stop for the better version, at least.
STEADY_IN_FULL = {
    ".20 and .25": (World(lambda _: [[0.20, 0.25]], 40, 2_000, 0.10), 0.9),
    ".20 and .22": (World(lambda _: [[0.20, 0.22]], 28, 3_571, 0.10), 0.95),
    ".02 and .025": (World(lambda _: [[0.02, 0.025]], 50, 8_000, 0.05), 0.93),
    "five": (World(lambda _: [[0.20, 0.18, 0.21, 0.22, 0.24]], 40, 5_000, 0.05), 0.87),
    "ten": (World(lambda _: [[0.10] * 9 + [0.13]], 40, 5_000, 0.02), 0.7),
}
STEADY = STEADY_IN_FULL if SOAK else {".20 and .25": STEADY_IN_FULL[".20 and .25"]}
CLOSE = World(lambda _: [[0.20, 0.21]], 60, 1_000, 0.05)
PERSONAL = World(lambda _: [[0.30, 0.12], [0.10, 0.33]], 21, 2_000, 0.05, personal=True)
ALIKE = World(lambda _: [[0.20, 0.20], [0.20, 0.20]], 21, 2_000, 0.05, personal=True)
ONE_BEST = World(lambda _: [[0.20, 0.30], [0.15, 0.25]], 28, 4_000, 0.01, personal=True)
LATE = (6, 10, 15, 20)  # days at which a personal policy is looked at
JOINING = World(lambda _: [[0.10, 0.20, 0.10]], 16, 2_000, 0.05, joins=(0, 0, 8))


def _most(probability: float, campaigns: int = CAMPAIGNS) -> int:
    return int(binom.isf(FALSE_ALARM, campaigns, probability))


def _least(probability: float, campaigns: int = CAMPAIGNS) -> int:
    return int(binom.ppf(FALSE_ALARM, campaigns, probability))


Claims = dict[str, BoolArray]


def _ever(
    world: World,
    days: Sequence[int],
    claims: Callable[[Look, Judged, int], dict[str, bool]],
    campaigns: int = CAMPAIGNS,
) -> dict[str, int]:
    """Count, by claim, the campaigns in which it was ever true at a look at the end of a day."""
    ever: Claims = {}
    shown = frozenset(range(world.days) if SOAK else days)
    for look in looks(world, 1, campaigns):
        if look.day not in shown:
            continue
        for campaign, judged in enumerate(judge(world, look)):
            for claim, true in claims(look, judged, campaign).items():
                ever.setdefault(claim, np.zeros(campaigns, dtype=np.bool_))[campaign] |= true
    return {claim: int(np.count_nonzero(true)) for claim, true in ever.items()}


def _stopped_before(judged: Judged, day: int) -> bool:
    """Return what pages advised before: stop, by the average over all days."""
    leader = judged.lead
    if leader is None or leader.at_most is None or leader.uncompared or day < WEEK:
        return False
    return leader.leads or leader.at_most <= LITTLE * judged.value


def _shipping(look: Look, judged: Judged, _: int) -> dict[str, bool]:
    rates = look.rates.mean(axis=0)
    shipped = judged.verdict.action == "ship"
    arm, stopped = judged.verdict.arm, _stopped_before(judged, look.day)
    worse = arm is not None and bool(rates[arm] < rates.max())
    much = arm is not None and bool(rates[arm] < (1 - LITTLE) * rates.max())
    return {
        "ships": shipped and not worse,
        "ships the worse": shipped and worse,
        "ships the much worse": shipped and much,
        "stopped before": stopped and not worse,
        "stopped for the worse before": stopped and worse,
    }


@cache
def _shipped(world: World, days: tuple[int, ...], campaigns: int = CAMPAIGNS) -> dict[str, int]:
    return _ever(world, days, _shipping, campaigns)


@pytest.mark.parametrize(("world", "power"), FALLING.values(), ids=FALLING)
def test_verdict_on_a_falling_version_does_not_ship_it_once_it_is_worse(world, power):
    counts = _shipped(world, FALLING_DAYS, FALLING_CAMPAIGNS)
    assert counts["ships the worse"] <= _most(ALPHA, FALLING_CAMPAIGNS)
    assert counts["ships"] >= _least(power, FALLING_CAMPAIGNS)  # in its time


def test_verdict_by_the_average_over_all_days_ships_a_falling_version_once_it_is_worse():
    world, _ = FALLING["1,000 a day"]
    counts = _shipped(world, FALLING_DAYS, FALLING_CAMPAIGNS)
    assert counts["stopped for the worse before"] > FALLING_CAMPAIGNS / 2


@pytest.mark.parametrize(("world", "power"), STEADY.values(), ids=STEADY)
def test_verdict_on_steady_rates_ships_the_better_version(world, power):
    counts = _shipped(world, (9, 19, 29, 39))
    assert counts["ships the worse"] <= _most(ALPHA / 2)
    assert counts["ships"] >= _least(power)


def test_verdict_on_close_versions_hardly_ever_ships_the_worse():
    counts = _shipped(CLOSE, tuple(range(9, 60, 10)))
    assert counts["ships the much worse"] <= _most(ALPHA)


def _personal(look: Look, judged: Judged, campaign: int) -> dict[str, bool]:
    rates = look.rates.mean(axis=0)
    conclusion = judged.verdict
    cost = conclusion.cost
    truth = None if conclusion.arm is None else float(look.value[campaign] - rates[conclusion.arm])
    missed = cost is not None and cost.measurable and truth is not None and not cost.contains(truth)
    return {
        "keeps": conclusion.action == "keep_personalising",
        "ships": conclusion.action == "ship",
        "missed": missed,
        "stopped before": _stopped_before(judged, look.day),
    }


def test_verdict_keeps_a_personal_policy_that_earns_more_than_any_version():
    counts = _ever(PERSONAL, LATE, _personal)
    assert counts["keeps"] >= _least(0.95)
    assert counts["ships"] == 0
    assert counts["missed"] <= _most(ALPHA)
    assert counts["stopped before"] > _most(ALPHA)  # it compared versions with each other alone


def test_verdict_does_not_keep_a_personal_policy_where_recipients_are_alike():
    counts = _ever(ALIKE, LATE, _personal)
    assert counts["keeps"] <= _most(ALPHA)
    assert counts["missed"] <= _most(ALPHA)


def test_verdict_ships_one_version_that_is_best_for_everybody():
    counts = _ever(ONE_BEST, (13, 20, 27), _personal)
    assert counts["ships"] >= _least(0.8)
    assert counts["missed"] <= _most(ALPHA)


def _width(finding: Finding) -> float:
    return finding.high - finding.low if finding.measurable else np.inf


@dataclass(frozen=True)
class Joined:
    """Campaigns some days after a version has joined.

    Attributes:
        known: the lift between the old versions is no wider than before,
        erred: and misses the truth.
        wider: the control's value is wider,
        wider_before: and was where it was taken from other sums from then on.
    """

    known: int = 0
    erred: int = 0
    wider: int = 0
    wider_before: int = 0


def _joined(day: int) -> Joined:
    """Count campaigns on a day, the version having joined on the eighth."""
    facts = EstimationContext(contextual=False, drifting=False, floor=0.05, requested=False)
    by_day = {look.day: look for look in looks(JOINING, 1, CAMPAIGNS) if look.day in (7, day)}
    known = erred = wider = wider_before = 0
    for campaign in range(CAMPAIGNS):
        sums = [one_of(by_day[d].evidence, campaign) for d in (7, day)]
        before, now = (lifts(facts, s, 0, Family("lifts"))[1] for s in sums)
        first, last = (values(facts, s, Family("values"))[0] for s in sums)
        old = values(replace(facts, requested=True), sums[1], Family("values"))[0]
        wider += _width(last) > _width(first)
        wider_before += _width(old) > _width(first)
        assert before.measurable
        assert now.measurable
        erred += not now.contains(0.10)
        known += _width(now) <= _width(before)
    return Joined(known, erred, wider, wider_before)


@pytest.mark.parametrize("day", [7, 9, 15])
def test_version_that_joins_leaves_the_comparison_of_the_others(day):
    """The old lift covers, and is no wider than before it joined; nor is the control's value."""
    joined = _joined(day)
    assert joined.erred <= _most(ALPHA)
    assert joined.known >= _least(0.95)
    assert joined.wider == 0
    assert day != 9 or joined.wider_before > CAMPAIGNS / 2
