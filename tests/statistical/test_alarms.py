"""Whether alarms sleep while nothing is wrong, and wake when something is, however often one looks.

Campaigns run side by side. A campaign *alarms* when any look at it does. Each rule is held to two
figures: with a true chance of false alarms of at most α, `most(R, α)` of R campaigns is exceeded
with probability at most 1e-4, and so with a true power of at least β, fewer than `least(R, β)` have
it. Negative controls are the rules that these ones replaced, which must fail the same bounds.
"""

from functools import cache

import numpy as np
import pytest
from msgspec import Struct
from scipy.special import chdtrc
from scipy.stats import binom, norm

from bandits.allocation import apply_floor
from bandits.array_types import FloatArray
from bandits.inference.late_rewards import LIMIT, LateRewardSums
from bandits.inference.lift_periods import LEVEL as LIFTS_LEVEL
from bandits.inference.lift_periods import lifts_p_value
from bandits.inference.periods import LEVEL as LEVELS_LEVEL
from bandits.inference.periods import levels_evidence
from bandits.inference.sample_ratio import SampleRatio
from bandits.numerics.quadrature import beta_chances
from tests.conftest import SOAK

CAMPAIGNS = 2000 if SOAK else 300
FALSE_ALARM = 1e-4
DAYS = 28
FOLDS_A_DAY = 4
WEEKEND = np.where(np.arange(DAYS) % 7 < 5, 1.0, 0.3)[:, None]
PROGRESS = np.linspace(0, 1, DAYS)[:, None]
CROSSING = np.array([0.22, 0.18]) + PROGRESS * [-0.04, 0.04]


def most(campaigns: int, probability: float) -> int:
    """Return what a binomial count exceeds with probability at most the false-alarm rate."""
    return int(binom.isf(FALSE_ALARM, campaigns, probability))


def least(campaigns: int, probability: float) -> int:
    """Return what a binomial count falls below with probability at most the false-alarm rate."""
    return int(binom.ppf(FALSE_ALARM, campaigns, probability))


# Split as intended: 100 looks at 1,000 emails each.


def _sent(n_arms: int, loss: float, campaigns: int = CAMPAIGNS) -> SampleRatio:
    """Sum what is sent at equal shares, of which the last arm loses a part: (looks, R, K)."""
    rng = np.random.default_rng(41)
    shares = np.full(n_arms, 1 / n_arms)
    sent = rng.multinomial(1000, shares, (100, campaigns))
    sent[..., -1] -= rng.binomial(sent[..., -1], loss)
    counted = sent.sum(axis=-1, keepdims=True)
    columns = (sent, counted * shares, counted * shares**2)
    return SampleRatio(*(np.cumsum(c, axis=0, dtype=np.float64) for c in columns))


def _alarms(ratio: SampleRatio) -> int:
    """Count campaigns that alarm at any look."""
    looks = zip(ratio.sent, ratio.expected, ratio.square, strict=True)
    alarmed = np.zeros(ratio.sent.shape[1], dtype=np.bool_)
    for columns in looks:
        alarmed |= SampleRatio(*columns).alarms().any(axis=-1)
    return np.count_nonzero(alarmed)


def _alarms_at_one_in_a_thousand(ratio: SampleRatio) -> int:
    """Count campaigns that alarm at p < .001 by arm at any look, as they once did."""
    z = ratio.excess / np.sqrt(ratio.variance)
    return np.count_nonzero((2 * norm.sf(np.abs(z)) < 0.001).any(axis=(0, 2)))


@pytest.mark.parametrize("n_arms", [2, 5, 20, 60] if SOAK else [2, 5])
def test_split_of_sound_campaigns_alarms_in_three_of_a_thousand(n_arms: int) -> None:
    ratio = _sent(n_arms, 0.0)
    assert _alarms(ratio) <= most(CAMPAIGNS, 0.003)
    assert n_arms == 2 or _alarms_at_one_in_a_thousand(ratio) > most(CAMPAIGNS, 0.003)


def test_split_finds_a_loss_of_two_and_of_five_percent_by_100_000_emails() -> None:
    assert _alarms(_sent(2, 0.05)) >= least(CAMPAIGNS, 0.999)
    assert _alarms(_sent(2, 0.02)) >= least(CAMPAIGNS, 0.27)


def test_split_of_an_arm_that_is_hardly_sent_needs_no_burn_in() -> None:
    rng = np.random.default_rng(42)
    shares = np.array([0.98, 0.01, 0.01])
    sent = np.cumsum(rng.multinomial(20, shares, (100, CAMPAIGNS)), axis=0, dtype=np.float64)
    counted = np.broadcast_to(20 * np.arange(1.0, 101)[:, None, None], sent.shape)
    ratio = SampleRatio(sent, counted * shares, counted * shares**2)
    assert _alarms(ratio) <= most(CAMPAIGNS, 0.003)


# Drift: levels and lifts.


class Days(Struct, frozen=True, eq=False):
    """Sums by day of R campaigns: decisions and conversions (R, P, K), lift sums (R, P, 7, K)."""

    sent: FloatArray
    won: FloatArray
    lifts: FloatArray


class World(Struct, frozen=True):
    """Rates of the arms, and emails a day: from day to day by a part of one rate to another.

    Attributes:
        weekend: rates are .3 of what they are on weekdays.
    """

    first: tuple[float, ...]
    last: tuple[float, ...]
    daily: int
    floor: float
    weekend: bool = False

    @property
    def rates(self) -> FloatArray:
        """By day and arm, (P, K)."""
        first, last = np.array(self.first), np.array(self.last)
        return (first + PROGRESS * (last - first)) * (WEEKEND if self.weekend else 1.0)


def crossing(floor: float) -> World:
    return World((0.22, 0.18), (0.18, 0.22), 1000, floor)


def steady(n_arms: int, rate: float, best: float, **properties: float | bool) -> World:
    rates = (rate, *[rate * best] * (n_arms - 1))
    return World(rates, rates, **properties)


@cache
def _days(world: World, campaigns: int = CAMPAIGNS) -> Days:
    """Allocate by Thompson sampling, which learns four times a day."""
    rng = np.random.default_rng(43)
    n_arms = len(world.first)
    won = sent = np.zeros((campaigns, n_arms))
    days = Days(*(np.zeros((campaigns, DAYS, *end)) for end in ((n_arms,), (n_arms,), (7, n_arms))))
    for day, rates in enumerate(world.rates):
        for _ in range(FOLDS_A_DAY):
            shares = apply_floor(beta_chances(won + 1, sent - won + 1), world.floor)
            n = rng.multinomial(world.daily // FOLDS_A_DAY, shares)
            hits = rng.binomial(n, rates)
            won, sent = won + hits, sent + n
            days.sent[:, day] += n
            days.won[:, day] += hits
            days.lifts[:, day] += _lift_sums(n, hits, shares)
    return days


def _lift_sums(n: FloatArray, hits: FloatArray, shares: FloatArray) -> FloatArray:
    """Sum as `LiftPeriodSums` does, the first arm being the control."""
    own, of_control = shares[:, :1], shares
    own, of_control = (w / (shares[:, :1] + shares) for w in (own, of_control))
    own = own * (np.arange(shares.shape[1]) > 0)
    of_control = of_control * (np.arange(shares.shape[1]) > 0)
    parts = [n, own * n, own * hits, own**2 * n]
    parts += [of_control * n[:, :1], of_control * hits[:, :1], of_control**2 * n[:, :1]]
    return np.stack(parts, axis=1)


def _levels_move(days: Days) -> int:
    """Count campaigns whose levels are ever found to move, by a look each day."""
    evidence = np.zeros(len(days.sent))
    for n in range(1, DAYS + 1):
        sent, won = days.sent[:, :n], days.won[:, :n]
        evidence = np.maximum(evidence, levels_evidence(np.arange(n), sent, won, won))
    return np.count_nonzero(np.exp(-evidence) < LEVELS_LEVEL)


def _lifts_move(days: Days) -> int:
    """Count campaigns whose lifts are found to move; earlier looks are among those of the last."""
    p_values = lifts_p_value(np.arange(DAYS), days.sent, days.won, days.won, days.lifts, control=0)
    return np.count_nonzero(p_values < LIFTS_LEVEL)


def _summed_arms_move(days: Days) -> int:
    """Count campaigns in which the residuals of all arms together move, at p < .001, as once."""
    sent, won = days.sent, days.won
    n = np.maximum(sent.sum(axis=1, keepdims=True), 1.0)
    mean = won.sum(axis=1, keepdims=True) / n
    variance = mean * (1 - mean)
    residual = (won - sent * mean).sum(axis=2)
    covariance = np.einsum("rpk,rk,pq->rpq", sent, variance[:, 0], np.eye(DAYS))
    covariance -= np.einsum("rpk,rk,rqk->rpq", sent, (variance / n)[:, 0], sent)
    statistic = np.einsum("rp,rpq,rq->r", residual, np.linalg.pinv(covariance), residual)
    return np.count_nonzero(chdtrc(DAYS - 1, statistic) < 0.001)


def _arms_have_trends(days: Days) -> int:
    """Count campaigns in which arm and time interact, as a plain trend of differences would."""
    rate = days.won / np.maximum(days.sent, 1)
    weights = days.sent / 0.02 / 0.98
    time = np.arange(DAYS)[:, None] % 7 >= 5  # what differs between weekdays and weekends
    about = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    slope = time - (weights * time).sum(axis=1, keepdims=True) / about
    score, information = (weights * slope * rate).sum(axis=1), (weights * slope**2).sum(axis=1)
    z = score / np.sqrt(np.maximum(information, 1e-9))
    return np.count_nonzero(2 * norm.sf(np.abs(z)).min(axis=1) < LIFTS_LEVEL / z.shape[1])


STEADY = [
    steady(2, 0.20, 1.0, daily=1000, floor=0.01),
    *(
        [
            steady(2, 0.20, 1.0, daily=1000, floor=0.10),
            steady(5, 0.20, 1.1, daily=1000, floor=0.01),
            steady(20, 0.02, 1.2, daily=4000, floor=0.01),
            steady(2, 0.90, 1.0, daily=500, floor=0.01),
        ]
        if SOAK
        else []
    ),
]
WEEKENDS = [
    steady(2, 0.20, 1.1, daily=1000, floor=0.01, weekend=True),
    steady(5, 0.02, 1.2, daily=4000, floor=0.05, weekend=True),
    *(
        [
            steady(2, 0.02, 1.2, daily=4000, floor=0.01, weekend=True),
            steady(5, 0.20, 1.0, daily=1000, floor=0.05, weekend=True),
            steady(20, 0.20, 1.2, daily=2000, floor=0.01, weekend=True),
            steady(20, 0.02, 1.0, daily=4000, floor=0.01, weekend=True),
            steady(2, 0.90, 1.05, daily=500, floor=0.01, weekend=True),
        ]
        if SOAK
        else []
    ),
]


@pytest.mark.parametrize("world", STEADY)
def test_levels_and_lifts_of_steady_campaigns_are_hardly_ever_found_to_move(world: World) -> None:
    days = _days(world)
    assert _levels_move(days) <= most(CAMPAIGNS, 0.01)
    assert _lifts_move(days) <= most(CAMPAIGNS, 0.01)


@pytest.mark.parametrize("world", WEEKENDS)
def test_weekend_that_all_arms_share_moves_levels_and_no_lift(world: World) -> None:
    days = _days(world)
    assert _levels_move(days) >= least(CAMPAIGNS, 0.99)
    assert _lifts_move(days) <= most(CAMPAIGNS, 0.01)
    assert _arms_have_trends(days) > most(CAMPAIGNS, 0.01)


@pytest.mark.parametrize(("floor", "lifts_found"), [(0.01, 0.5), (0.10, 0.7)])
def test_tastes_that_cross_move_levels_and_lifts(floor: float, lifts_found: float) -> None:
    days = _days(crossing(floor))
    assert _levels_move(days) >= least(CAMPAIGNS, 0.85)
    assert _lifts_move(days) >= least(CAMPAIGNS, lifts_found)
    assert _summed_arms_move(days) < least(CAMPAIGNS, 0.85)


# Late rewards: hourly waves, a window of a week and a maturity of an hour.


def _answered(median: float, hours: int, campaigns: int) -> list[LateRewardSums]:
    """Sum what campaigns know after so many hours of 500 emails each, answers log-normal."""
    rng = np.random.default_rng(44)
    sums = []
    for _ in range(campaigns):
        age = hours - np.repeat(np.arange(hours), 500)
        delay = np.exp(np.log(median) + 1.2 * rng.normal(size=len(age)))
        answers = (rng.random(len(age)) < 0.2) & (delay <= age) & (age >= 1)
        arms = np.zeros(len(age), dtype=np.int64)
        at_maturity = (answers & (delay <= 1)).astype(np.float64)
        sums.append(LateRewardSums.from_decisions(arms, answers.astype(np.float64), at_maturity, 1))
    return sums


def test_late_rewards_are_seen_on_the_first_day_and_quick_ones_never_are() -> None:
    late = _answered(4.0, 12, 20)  # 88 % of answers come after the first hour
    assert all(sums.surely_late for sums in late)
    assert min(sums.overall or 0.0 for sums in late) > 0.5
    ready = [_answered(0.1, hours, 20) for hours in (2, 6, 12, 24)]  # 3 %
    assert not any(sums.surely_late for campaigns in ready for sums in campaigns)
    closed_only = LateRewardSums.zeros(1)  # all that was looked at before a window has closed
    assert not closed_only.surely_late
    assert LIMIT == 0.1
