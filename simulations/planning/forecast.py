"""Forecast of a planned campaign: a policy beside the A/B test that does best."""

from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from time import monotonic

import numpy as np
from msgspec import Struct
from numpy.random import Generator, SeedSequence, default_rng

from bandits.array_types import FloatArray, IntArray
from bandits.policy import AnyPolicy
from simulations.planning.wave_simulation import (
    CampaignPlan,
    WaveCourse,
    equal_split_findings,
    simulate_policy,
    simulate_test,
    test_points,
)
from simulations.reporting.summary import TWO_SIDED, Estimate

FIRST, BLOCK = 20, 100  # replications side by side: few until a hundred are done, then more
SHARES = (0.1, 0.2, 0.5)  # of an A/B test: the policy is compared with the best of these
_TESTS = 10_000  # replications of each A/B test, which costs next to nothing


class ForecastSide(Struct, frozen=True, eq=False):
    """One way to send the campaign.

    Attributes:
        emails: (points,) int, the emails sent at each point of the curve.
        extra: at the end, earned more than by an equal split.
        curve: mean, 5 % and 95 % quantile of the extra, (3, points).
        wrong: the chance of a wrong winner.
        share: of an A/B test; None for the policy.
    """

    emails: IntArray
    extra: Estimate
    low: float
    high: float
    curve: FloatArray
    wrong: Estimate
    share: float | None = None


class PlanForecast(Struct, frozen=True, eq=False):
    """A policy beside the A/B test that does best.

    Attributes:
        replications: of the policy.
        difference: the policy's extra less the A/B test's.
        margin: half the width of its 95 % interval, over replications.
        ahead: the chance that the policy's campaign earns more than an A/B test's.
        mistaken: the chance that an equal split of all emails, once every result is in, has its
            best results for an arm that is not the best.
        discerned: how much better that arm is than all on average, as a part of what the best is.
    """

    policy: ForecastSide
    test: ForecastSide
    replications: int
    difference: float
    margin: float
    ahead: float
    mistaken: float
    discerned: float


class ForecastAbandoned(Exception):
    """The caller stopped the forecast."""


def forecast_plan(  # noqa: PLR0913 - the plan, and the time to spend
    campaign: CampaignPlan,
    policy: AnyPolicy,
    floor: float,
    *,
    replications: int = 1000,
    first: int = FIRST,
    seconds: float = 4.0,
    seed: int = 0,
    progress: Callable[[float], bool] = lambda _: True,
) -> PlanForecast:
    """Compare a policy with A/B tests on a planned campaign.

    Args:
        campaign: the plan.
        policy: the policy.
        floor: the least share of each arm.
        replications: their number at most.
        first: replications of the first blocks, which are few.
        seconds: after which no further block of replications begins; the first is always finished.
        seed: the same seed gives the same replications.
        progress: called now and then with the part that is done; returns false to stop.

    Raises:
        ForecastAbandoned: `progress` returned false.
    """
    began = monotonic()
    courses: list[WaveCourse] = []
    finished = 0
    sizes = _blocks(replications, first)
    for size, rng in zip(sizes, _rngs(seed, len(sizes)), strict=True):
        took = monotonic() - began
        if finished and took * (finished + size) / finished > seconds:
            break

        def report_part(part: float, before: int = finished, size: int = size) -> None:
            by_count = (before + part * size) / replications
            by_time = min(0.99, (monotonic() - began) / seconds)
            if not progress(max(by_count, by_time)):
                raise ForecastAbandoned

        courses.append(simulate_policy(campaign, policy, floor, size, rng, report_part))
        finished += size
    *rngs, last = _rngs(seed + 1, len(SHARES) + 1)
    tried = [
        simulate_test(campaign, share, _TESTS, rng) for share, rng in zip(SHARES, rngs, strict=True)
    ]
    tests = [
        _side(test_points(campaign, share), course, share)
        for share, course in zip(SHARES, tried, strict=True)
    ]
    course = WaveCourse(
        *(np.concatenate([getattr(c, f) for c in courses]) for f in ("extra", "wrong"))
    )
    side = _side(np.cumsum([0, *campaign.sizes]), course)
    place = max(range(len(tests)), key=lambda i: tests[i].extra.mean)
    best = tests[place]
    margin = TWO_SIDED * sqrt(side.extra.se**2 + best.extra.se**2)
    mistaken, discerned = equal_split_findings(campaign, _TESTS, last)
    return PlanForecast(
        policy=side,
        test=best,
        replications=finished,
        difference=side.extra.mean - best.extra.mean,
        margin=margin,
        ahead=_chance_above(course.extra[:, -1], tried[place].extra[:, -1]),
        mistaken=mistaken,
        discerned=discerned,
    )


def _chance_above(one: FloatArray, other: FloatArray) -> float:
    """Return the chance that a value of one sample is above one of the other; a tie counts half."""
    ranked = np.sort(other)
    below, upto = (np.searchsorted(ranked, one, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * len(other)))


def _rngs(seed: int, n: int) -> Iterator[Generator]:
    return (default_rng(child) for child in SeedSequence(seed).spawn(n))


def _blocks(replications: int, first: int) -> list[int]:
    """Cut replications into blocks, whose sizes never depend on the speed of the machine.

    The draws of a block depend on its size, so a seed gives the same replications everywhere; a
    slow machine only stops after fewer blocks.
    """
    few = [first] * min(BLOCK // first, replications // first)
    rest = replications - sum(few)
    many = [BLOCK] * (rest // BLOCK)
    return [*few, *many, *filter(None, [rest % BLOCK])]


def _side(
    emails: Sequence[int] | IntArray, course: WaveCourse, share: float | None = None
) -> ForecastSide:
    low, high = np.quantile(course.extra, [0.05, 0.95], axis=0)
    curve = np.stack([course.extra.mean(axis=0), low, high])
    return ForecastSide(
        np.array(emails),
        Estimate.from_values(course.extra[:, -1]),
        float(low[-1]),
        float(high[-1]),
        curve,
        Estimate.from_values(course.wrong),
        share,
    )
