import numpy as np
import pytest
from msgspec.structs import replace

from bandits.inference.aipw import Scores
from bandits.inference.estimates import EstimationContext, Lead, recent_agreement
from bandits.inference.intervals import WEIGHTED, Family, Interval, NotYet
from bandits.inference.periods import arm_moments, lift_trends
from bandits.inference.recent_days import DAY
from bandits.inference.sender_checks import SenderAlarm
from bandits.verdict import Comparison, Progress, needed_days, verdict, weight_span

HOUR = 3_600.0
FACTS = EstimationContext(contextual=False, drifting=False, floor=0.05)
PAIR = Family("comparisons of the leader with another", 1)
LEADS = Lead(1, leads=True, rivals=(), at_most=0.0, family=PAIR)
CLOSE = Lead(1, leads=False, rivals=(0,), at_most=0.003, family=PAIR)
OPEN = Lead(1, leads=False, rivals=(0,), at_most=0.02, family=PAIR)
WEEK = Progress(
    started=True,
    at=20 * DAY,
    window=DAY,
    sent=9_000,
    days_needed=7,
    closed_days=8,
    last_day=18,
    closes_at=None,
    span=(12 * DAY, 17 * DAY),
)
SURE = Comparison(
    LEADS, little=0.004, gain=None, recent="agrees", split_alarmed=False, lifts_move=False
)

DROPS = SenderAlarm(3, "split", 0, 1.0, 0.5, 900)


def gain(low, high):
    family = Family.personal(2)
    return Interval(low, high, (low + high) / 2, family.alpha_each, WEIGHTED.key, family)


@pytest.mark.parametrize(
    ("comparison", "step"),
    [
        ({}, ("ship", "leads")),
        ({"lead": CLOSE}, ("ship", "little_lost")),
        ({"lead": OPEN}, ("keep_running", "could_lose")),
        ({"lead": None}, ("wait", "nothing_final")),
        ({"split_alarmed": True}, ("check_health", "split")),
        ({"sender": DROPS, "split_alarmed": True}, ("check_health", "sender")),
        ({"sender": DROPS, "lead": None}, ("check_health", "sender")),
        ({"lifts_move": True}, ("keep_running", "lifts_move")),
        ({"recent": "unknown"}, ("keep_running", "recent_unknown")),
        ({"recent": "contradicts"}, ("keep_running", "recent_contradicts")),
        ({"lead": replace(LEADS, uncompared=(2,))}, ("keep_running", "not_enough")),
        ({"lead": replace(OPEN, at_most=None)}, ("keep_running", "not_enough")),
        ({"gain": gain(0.07, 0.09)}, ("keep_personalising", "personal_better")),
        ({"gain": gain(-0.03, 0.05)}, ("keep_running", "personal_unknown")),
        ({"gain": NotYet("", "")}, ("keep_running", "personal_unknown")),
        ({"gain": gain(-0.001, 0.002)}, ("ship", "personal_equal")),
        ({"gain": gain(-0.05, -0.002)}, ("ship", "leads")),
        ({"gain": gain(-0.05, -0.002), "lifts_move": True}, ("keep_running", "lifts_move")),
    ],
)
def test_verdict_has_one_step_for_each_comparison(comparison, step):
    conclusion = verdict(WEEK, replace(SURE, **comparison))
    assert (conclusion.action, conclusion.reason) == step


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        ({"started": False}, ("wait", "not_started")),
        ({"closed_days": 6}, ("keep_running", "few_days")),
        ({"closed_days": 1, "at": 12 * DAY + 3.1 * HOUR}, ("keep_running", "few_days")),
        ({"closed_days": 3, "days_needed": 3}, ("ship", "leads")),
    ],
)
def test_verdict_counts_days_of_sending_and_not_time(progress, step):
    conclusion = verdict(replace(WEEK, **progress), SURE)
    assert (conclusion.action, conclusion.reason) == step
    assert conclusion.short_plan is (conclusion.days_needed < 7)


def test_verdict_before_any_send_waits_for_one():
    conclusion = verdict(replace(WEEK, sent=0), replace(SURE, lead=None))
    assert (conclusion.action, conclusion.reason) == ("wait", "nothing_sent")
    assert conclusion.next_at is None


def test_verdict_of_a_contextual_policy_is_against_its_own_value():
    conclusion = verdict(WEEK, replace(SURE, gain=gain(0.07, 0.09)))
    assert (conclusion.at_most, conclusion.against) == (0.09, "policy")
    assert conclusion.family == Family.personal(2)
    unknown = verdict(WEEK, replace(SURE, gain=NotYet("", "")))
    assert (unknown.at_most, unknown.against) == (None, "policy")


def test_a_short_plan_asks_for_its_own_days_and_not_for_the_last_seven():
    assert needed_days(None, None) == needed_days(0.0, None) == 7
    assert needed_days(0.0, 30 * DAY) == 7
    assert needed_days(0.0, 3.5 * DAY) == 3
    assert needed_days(0.0, 6 * HOUR) == 1
    conclusion = verdict(
        replace(WEEK, days_needed=3, closed_days=3), replace(SURE, recent="unknown")
    )
    assert (conclusion.action, conclusion.short_plan) == ("ship", True)


def test_next_look_is_when_the_days_that_are_missing_can_have_closed():
    few = verdict(replace(WEEK, closed_days=5), SURE)
    assert few.next_at is not None
    assert few.next_at.timestamp() == 21 * DAY  # day 20 is the seventh, and begins to close then
    later = verdict(WEEK, replace(SURE, lead=OPEN))
    assert later.next_at is not None
    assert later.next_at.timestamp() == 21 * DAY
    assert verdict(WEEK, SURE).next_at is None
    assert verdict(replace(WEEK, closes_at=19 * DAY), replace(SURE, lead=OPEN)).next_at is None


def test_weight_span_is_the_shortest_that_holds_four_fifths():
    starts = np.arange(5.0)
    assert weight_span(starts, starts + 1, np.array([1.0, 1, 1, 1, 1])) == (0.0, 4.0)
    assert weight_span(starts, starts + 1, np.array([1.0, 0, 4, 5, 0])) == (2.0, 4.0)
    assert weight_span(starts[:1], starts[:1] + 1, np.array([3.0])) == (0.0, 1.0)


def test_verdict_names_the_dates_of_its_comparison():
    conclusion = verdict(WEEK, SURE)
    assert conclusion.since is not None
    assert conclusion.until is not None
    assert conclusion.since.timestamp() == 12 * DAY
    assert conclusion.until.timestamp() == 17 * DAY - 1


def scores(mean, error, n=10_000.0, others=1):
    variation = (error * n) ** 2
    fields = (n, mean * n, variation, variation, 1_000.0, 5_000.0)
    return Scores(*(np.full(others, field) for field in fields))


@pytest.mark.parametrize(
    ("now", "trend", "recent"),
    [
        (scores(0.03, 0.012), 0.0, "agrees"),  # a steady leader's in half of looks
        (scores(0.03, 0.012), -0.1, "unknown"),
        (scores(0.03, 0.012), None, "unknown"),  # where no trend is looked for, it must be better
        (scores(0.036, 0.014), None, "agrees"),
        (scores(0.024, 0.012), 0.0, "unknown"),  # less than before
        (scores(0.03, 0.03), 0.0, "unknown"),  # and too unsure
        (scores(0.03, 0.001), -3.0, "agrees"),  # shown by its own sequence
        (scores(-0.05, 0.001), 3.0, "contradicts"),
    ],
)
def test_recent_days_agree_where_they_show_no_decline(now, trend, recent):
    trends = None if trend is None else np.array([trend])
    before = scores(0.028, 0.01)
    assert recent_agreement(FACTS, now, before, trends, little=0.004, family=PAIR) == recent


@pytest.mark.parametrize(("others", "bar"), [(1, 0.0), (2, -0.90), (4, -1.61), (9, -2.27)])
def test_bars_are_passed_by_a_steady_leader_in_more_looks_the_more_others_there_are(others, bar):
    family = Family("comparisons of the leader with another", others)

    def agreement(trend):
        now, before = (scores(mean, 0.012, others=others) for mean in (0.03, 0.028))
        trends = np.append(np.full(others - 1, 9.0), trend)
        return recent_agreement(FACTS, now, before, trends, little=0.004, family=family)

    assert agreement(bar + 0.01) == "agrees"
    assert agreement(bar - 0.01) == "unknown"


def test_lift_trends_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(1)
    count = rng.integers(200, 2_000, (12, 3)).astype(float)
    total = np.round(count * (0.3 - 0.01 * np.arange(12)[:, None] * [1, 0, 0]))
    z = lift_trends(np.arange(12), count, total, total, leader=0)
    variance = arm_moments(count, total, total, 1.0).variance
    for arm in (1, 2):
        weights = 1 / (variance[0] / count[:, 0] + variance[arm] / count[:, arm])
        lift = total[:, 0] / count[:, 0] - total[:, arm] / count[:, arm]
        time = np.arange(12) - np.average(np.arange(12), weights=weights)
        slope = (weights * time * lift).sum() / (weights * time**2).sum()
        assert z[arm] == pytest.approx(slope * np.sqrt((weights * time**2).sum()))
        assert z[arm] < -5
    assert z[0] == 0
    assert lift_trends(np.arange(12), count, total, total, leader=1)[0] == pytest.approx(-z[1])
    assert not lift_trends(np.arange(1), count[:1], total[:1], total[:1], leader=0).any()
