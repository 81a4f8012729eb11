"""Events by name: counted from the first on, kept apart from the reward, whatever happens."""

from collections.abc import Sequence

import pytest
from msgspec import json

from bandits.engine import Engine
from bandits.errors import IdReused, InvalidInput
from bandits.results import EventResult, Results
from bandits.schemas import Request, Reward
from storage.snapshots.verify import compare

DECLARED = {
    "policy": {"name": "uniform"},
    "reward": {
        "metrics": {"click": {}, "order": {"weight": 0.5, "count": "sum", "high": 100.0}},
        "window_seconds": 100.0,
        "maturity_seconds": 10.0,
    },
}


def send(engine: Engine, n: int) -> list[str]:
    """Choose for n recipients."""
    requests = [Request(f"u-{engine.clock()}-{i}") for i in range(n)]
    return [str(d.decision_id) for d in engine.choose("spring", requests)]


def report(
    engine: Engine, ids: Sequence[str], name: str, value: float = 1.0, event_id: str = ""
) -> None:
    """Report the same event of each decision."""
    engine.reward([Reward(i, event_id or name, name, value) for i in ids])


def learned(engine: Engine) -> Results:
    """Fold, see that the log says the same of all sums, and read the results."""
    engine.learn("spring")
    with engine.store.snapshots.audit("spring") as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    return engine.results("spring")


def event(results: Results, name: str) -> EventResult:
    """Find the results of one event."""
    return next(e for e in results.events if e.name == name)


def total(results: Results, name: str, field: str = "emails") -> float:
    """Sum a figure of an event over all arms."""
    return sum(getattr(arm, field) for arm in event(results, name).arms)


def test_events_are_counted_from_the_first_on(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 30)
    early = learned(engine)
    assert [e.name for e in early.events] == ["click", "order"]  # what is declared, from the start
    report(engine, ids[:12], "open")
    report(engine, ids[:12], "open", event_id="again")
    report(engine, ids[:4], "click")
    report(engine, ids[:2], "order", 30.0)
    first = learned(engine)
    assert [e.name for e in first.events] == ["click", "order", "open"]
    assert (total(first, "open"), total(first, "open", "events")) == (12, 24)
    assert (total(first, "click"), total(first, "order", "value")) == (4, 60.0)
    assert {arm.open for arm in event(first, "open").arms} == {1.0}
    assert event(first, "open").arms[0].rate == pytest.approx(
        event(first, "open").arms[0].emails / first.arms[0].sent
    )
    assert event(first, "open").arms[0].value is None
    assert not event(first, "open").arms[0].closed_rate.measurable
    now[0] += 50  # half of the emails are older than the other half
    send(engine, 30)
    now[0] += 60
    half = learned(engine)
    assert sum(arm.closed for arm in event(half, "open").arms) == 30
    assert total(half, "open", "closed_emails") == 12
    assert all(0 < arm.open < 1 for arm in event(half, "open").arms)
    rates = [arm.closed_rate for arm in event(half, "open").arms]
    # By lot a version may have no open, or nothing else.
    assert all(rate.low <= rate.estimate <= rate.high > rate.low for rate in rates)


def test_listed_events_change_nothing_that_is_learned(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 60)
    report(engine, ids[:20], "click")
    now[0] += 110
    before = learned(engine)
    snapshot = engine.store.snapshots.snapshot("spring", before.version)
    for name in ("open", "unsubscribe", "refund"):
        engine.reward([Reward(i, name, name, occurred_at=None) for i in ids[20:]])
    late = learned(engine)  # after the window: stored, and never counted
    assert [e.name for e in late.events] == ["click", "order"]
    assert late.health.late == 120
    assert late.health.late_rewards == before.health.late_rewards
    now[0] -= 60  # back within the window
    engine.reward([Reward(i, f"{i}-open", "open") for i in ids])
    after = learned(engine)
    newest = engine.store.snapshots.snapshot("spring", after.version)
    assert total(after, "open") == total(after, "open", "closed_emails") == 60
    assert (newest.statistic, newest.arm_counts) == (snapshot.statistic, snapshot.arm_counts)
    assert json.encode(after.arms) == json.encode(before.arms)
    assert after.health.late_rewards == before.health.late_rewards
    assert after.gain == before.gain


def test_events_in_any_order_with_a_refund_agree_with_the_log(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 30)
    report(engine, ids[:10], "order", 20.0)
    learned(engine)
    now[0] += 20  # matured, and open
    report(engine, ids[:5], "refund", 15.0)
    report(engine, ids[5:6], "order", 5.0, event_id="second")
    both = learned(engine)
    assert (total(both, "order", "value"), total(both, "refund", "value")) == (205.0, 75.0)
    assert (total(both, "order", "events"), total(both, "order")) == (11, 10)
    now[0] += 100
    closed = learned(engine)
    assert total(closed, "refund", "closed_emails") == 5
    # A value of few orders has no interval yet, and the rate has an exact one.
    arm = event(closed, "refund").arms[0]
    assert (arm.closed_rate.measurable, arm.closed_value.measurable) == (True, False)
    assert event(closed, "refund").less_is_better
    assert event(closed, "refund").weight is None
    assert event(closed, "order").weight == 0.5


def test_cancellation_takes_its_events_out_at_every_stage(engine, sender, now):
    sender.start(**DECLARED)
    for wait in (1, 20, 110):  # pending, matured, closed
        ids = send(engine, 20)
        report(engine, ids, "open")
        learned(engine)
        now[0] += wait
        learned(engine)
        report(engine, ids[:10], "complaint")
        engine.cancel(ids)
        results = learned(engine)
        assert [e.name for e in results.events] == ["click", "order"]
        assert sum(arm.sent for arm in event(results, "click").arms) == 0


def test_erased_subject_leaves_no_event_behind(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 10)
    subjects = [f"u-{now[0]}-{i}" for i in range(10)]
    report(engine, ids, "open")
    learned(engine)
    now[0] += 110
    learned(engine)
    engine.erase(subjects[0], by="tests")
    results = learned(engine)
    assert total(results, "open") == total(results, "open", "closed_emails") == 9


def test_removed_decisions_keep_their_events_in_the_sums(engine, sender, now):
    sender.start(**DECLARED, retention_days=1)
    ids = send(engine, 10)
    report(engine, ids[:7], "open")
    report(engine, ids[:2], "order", 40.0)
    now[0] += 110
    before = learned(engine)
    now[0] += 200_000
    assert engine.retain("spring") == 10
    after = learned(engine)
    assert after.events == before.events
    report(engine, send(engine, 5), "open")
    assert total(learned(engine), "open") == 12


def test_control_group_has_its_own_counts(engine, sender, now):
    sender.start(**DECLARED, holdout=0.5)
    ids = send(engine, 200)
    report(engine, ids, "open")
    now[0] += 110
    opened = event(learned(engine), "open")
    assert opened.holdout.emails + sum(arm.emails for arm in opened.arms) == 200
    assert 60 < opened.holdout.emails == opened.holdout.closed_emails < 140
    assert opened.holdout.rate == 1.0


def test_an_event_id_names_one_event_of_a_decision_whatever_its_name(engine, sender):
    sender.start(**DECLARED)
    ids = send(engine, 1)
    report(engine, ids, "open", event_id="e")
    with pytest.raises(IdReused):
        report(engine, ids, "click", event_id="e")
    with pytest.raises(InvalidInput, match="unknown metric 'opne'; known are click, order, and"):
        report(engine, ids, "opne", event_id="f")
    assert engine.receipt(ids[0]).reward == 0.0
    assert [e["metric"] for e in engine.receipt(ids[0]).events] == ["open"]


def test_declared_metric_with_a_listed_name_is_the_metric(engine, sender, now):
    sender.start(
        policy={"name": "uniform"},
        reward={
            "metrics": {"open": {}, "unsubscribe": {"weight": -3.0}},
            "window_seconds": 100.0,
        },
    )
    ids = send(engine, 20)
    report(engine, ids[:8], "open")
    report(engine, ids[:1], "unsubscribe")
    now[0] += 110
    results = learned(engine)
    assert [(e.name, e.weight, e.less_is_better) for e in results.events] == [
        ("open", 1.0, False),
        ("unsubscribe", -3.0, True),
    ]
    assert sum(arm.reward for arm in results.arms) == 5.0


def test_differences_of_all_events_hold_together(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 3000)
    report(engine, ids[::2], "open")
    now[0] += 110
    opened = event(learned(engine), "open")
    # 2 versions against the control; order and refund have a value beside their rate.
    assert opened.family.comparisons == 2 * (10 + 2)
    difference = opened.arms[1].difference
    assert difference.alpha == pytest.approx(0.05 / 24)
    assert difference.low < 0 < difference.high
    assert opened.arms[0].difference is None


def test_event_that_is_the_whole_score_differs_as_the_score_does(engine, sender, now):
    sender.start(
        policy={"name": "uniform"}, reward={"metrics": {"click": {}}, "window_seconds": 100.0}
    )
    ids = send(engine, 3000)
    report(engine, ids[::2], "click")
    report(engine, ids[::3], "open")
    now[0] += 110
    results = learned(engine)
    clicked, opened = event(results, "click"), event(results, "open")
    assert [arm.difference for arm in clicked.arms] == [arm.lift for arm in results.arms]
    assert clicked.family == results.lift_family
    assert opened.family.comparisons > clicked.family.comparisons


def test_event_of_a_score_with_costs_differs_by_itself(engine, sender, now):
    costs = {"subject": {"b": 0.25}}
    sender.start(
        policy={"name": "uniform"},
        reward={"metrics": {"click": {}}, "window_seconds": 100.0, "costs": costs},
    )
    ids = send(engine, 3000)
    report(engine, ids[::2], "click")
    now[0] += 110
    results = learned(engine)
    clicked = event(results, "click")
    index = next(arm.index for arm in results.arms if arm.variants["subject"] == "b")
    assert clicked.arms[index].difference.estimate > results.arms[index].lift.estimate + 0.1
    assert clicked.family != results.lift_family
