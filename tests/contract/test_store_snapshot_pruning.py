"""What is learned is kept for a while; a receipt of an older decision sums the log as of then."""

import numpy as np
import pytest
from sqlalchemy import delete

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import rebuild
from bandits.errors import NotDerivable
from bandits.schemas import Request, Reward
from bandits.statistics import dump
from storage.schema import allocations, receipt_allocations

DAY = 86_400.0
HALF_LIFE = {"half_life_seconds": DAY}
WINDOW = {"window_seconds": 2.5 * DAY}
PLAIN = {"policy": {"name": "thompson"}}
CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]


def campaign(engine, now, *, personal):
    """Send, reward, correct, cancel and learn for some days; return every decision's id."""
    ids = []
    draws = np.random.default_rng(7)
    for day in range(6):
        now[0] = 1.0 + day * DAY
        contexts = [{"recency": draws.random()} if personal else None for _ in range(8)]
        requests = [Request(f"u-{day}-{i}", context) for i, context in enumerate(contexts)]
        ids.append([d.decision_id for d in engine.choose("spring", requests)])
        engine.learn("spring")  # what is sent is pending,
        now[0] += 100.0
        engine.learn("spring")  # and learned without its rewards,
        clicked = [Reward(i, "e", "click") for i in ids[-1] if draws.random() < 0.6]
        engine.reward(clicked)
        engine.cancel(ids[-1][-1:])
        engine.learn("spring")  # which correct it
    return [i for some in ids for i in some]


@pytest.mark.parametrize(
    "declared",
    [
        PLAIN,
        {"policy": {"name": "lints"}, "context": CONTEXT, "forgetting": HALF_LIFE},
        {"policy": {"name": "lints"}, "context": CONTEXT, "forgetting": WINDOW},
        {"policy": {"name": "logistic_thompson"}, "context": CONTEXT},
    ],
    ids=["plain", "half-life", "window", "not invertible"],
)
def test_pruned_snapshot_is_rebuilt_from_the_log(engine, store, sender, now, declared):
    rule = {"metrics": {"click": {}}, "window_seconds": 1000.0, "maturity_seconds": 10.0}
    sender.start(reward=rule, **declared)
    ids = campaign(engine, now, personal="context" in declared)
    record = store.experiments.record("spring")
    kept = {v: store.snapshots.snapshot("spring", v) for v in range(1, record.learned_version + 1)}
    receipts = [engine.receipt(i) for i in ids]
    now[0] += 40 * DAY
    engine.prune("spring", most_bytes=1)
    newest = record.learned_version
    assert [v for v in kept if store.snapshots.snapshot("spring", v).statistic] == [newest]
    for version, snapshot in kept.items():
        with store.snapshots.audit("spring", version) as audit:
            again = rebuild(audit)
        sums = (again.statistic, again.counts)
        for made, held in zip(sums, load_statistic(record.configuration, snapshot), strict=True):
            for name in made.__dataclass_fields__:
                assert getattr(made, name) == pytest.approx(getattr(held, name), abs=1e-9)
    kept = {engine.receipt(i).derived_from for i in ids}
    assert kept == {"snapshot", "shares" if declared == PLAIN else "kept"}  # of no version at first
    with store.database.writing() as transaction:
        transaction.execute(delete(receipt_allocations))
        transaction.execute(delete(allocations))
    for before in receipts:
        after = engine.receipt(before.decision_id)
        assert after.derived
        assert after.derived_from == ("snapshot" if before.policy_version == 0 else "log")
        assert after.propensities == pytest.approx(before.propensities, abs=1e-9)


def test_pruned_snapshot_with_an_erased_subject_is_not_rebuilt(engine, store, sender, now):
    sender.start(policy={"name": "lints"})
    engine.choose("spring", [Request("u-0")])
    engine.learn("spring")
    (second,) = engine.choose("spring", [Request("u-1")])
    now[0] = 20.0
    engine.learn("spring")
    engine.erase("u-0", by="test")
    now[0] += 40 * DAY
    engine.prune("spring")
    assert engine.receipt(second.decision_id).derived_from == "kept"
    with store.database.writing() as transaction:
        transaction.execute(delete(receipt_allocations))
    told = engine.receipt(second.decision_id)
    assert (told.policy_version, told.derived) == (1, None)
    assert "erased" in told.not_derivable
    with pytest.raises(NotDerivable), store.snapshots.audit("spring", 1):
        pass


def test_prune_keeps_a_day_whole_and_of_each_hour_and_day_the_last(engine, store, sender, now):
    record = sender.start(policy={"name": "thompson_gaussian"})
    times = [
        *(0.2 * DAY + 60.0 * i for i in range(3)),  # of one day, more than a week ago,
        *(5.0 * DAY + 1500.0 * i for i in range(4)),  # of two hours, more than a day ago,
        *(10.0 * DAY + 60.0 * i for i in range(3)),  # and of the last day
    ]
    for i, at in enumerate(times):
        now[0] = at
        engine.choose("spring", [Request(f"u-{i}")])
        engine.learn("spring")
    points = [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)]
    now[0] = 10.2 * DAY
    plan = engine.prune("spring")
    assert (plan.by_age, plan.by_size) == ([1, 2, 4, 5], [])
    assert kept_versions(store) == [3, 6, 7, 8, 9, 10]
    assert plan.left == sum(snapshot.size for snapshot in kept(store))
    assert [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)] == points
    assert engine.prune("spring").by_age == []
    now[0] += 30 * DAY
    assert engine.prune("spring").by_age == [6, 8, 9]  # the last of their days
    assert store.snapshots.prune("spring", range(1, 11)) == 2
    assert kept_versions(store) == [10]  # the newest is never let go
    assert dump(load_statistic(record.configuration, store.snapshots.snapshot("spring", 10))[0])


def test_prune_lets_the_oldest_go_beyond_the_limit_of_bytes(engine, store, sender, now):
    sender.start(policy={"name": "thompson_gaussian"})
    for i in range(6):
        now[0] = 1.0 + i
        engine.choose("spring", [Request(f"u-{i}")])
        engine.learn("spring")
    sizes = [snapshot.size for snapshot in kept(store)]
    assert min(sizes) > 0
    now[0] += 60.0
    plan = engine.prune("spring", most_bytes=sum(sizes[2:]))
    assert (plan.by_age, plan.by_size, plan.left) == ([], [1, 2], sum(sizes[2:]))
    assert kept_versions(store) == [3, 4, 5, 6]
    engine.choose("spring", [Request("u-6")])  # of version 6
    engine.learn("spring")
    engine.choose("spring", [Request("u-7")])  # of version 7, which no fold counts
    plan = engine.prune("spring", most_bytes=1)
    assert (plan.by_size, kept_versions(store)) == ([3, 4, 5, 6], [7])
    assert plan.left > 1


def kept(store):
    return store.snapshots.kept("spring", before=0.0, waiting_since=0.0)


def kept_versions(store):
    return [snapshot.version for snapshot in kept(store)]
