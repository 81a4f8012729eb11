"""What is learned is kept for a while; a receipt of an older decision sums the log as of then."""

import numpy as np
import pytest

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import rebuild
from bandits.errors import NotDerivable
from bandits.schemas import Request, Reward
from bandits.statistics import dump

DAY = 86_400.0
HALF_LIFE = {"half_life_seconds": DAY}
WINDOW = {"window_seconds": 2.5 * DAY}
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
        {"policy": {"name": "thompson"}},
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
    engine.prune("spring")
    newest = record.learned_version
    assert [v for v in kept if store.snapshots.snapshot("spring", v).statistic] == [newest]
    for version, snapshot in kept.items():
        with store.snapshots.audit("spring", version) as audit:
            again = rebuild(audit)
        sums = (again.statistic, again.counts)
        for made, held in zip(sums, load_statistic(record.configuration, snapshot), strict=True):
            for name in made.__dataclass_fields__:
                assert getattr(made, name) == pytest.approx(getattr(held, name), abs=1e-9)
    for before in receipts:
        after = engine.receipt(before.decision_id)
        assert after.derived
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
    told = engine.receipt(second.decision_id)
    assert (told.policy_version, told.derived) == (1, None)
    assert "erased" in told.not_derivable
    with pytest.raises(NotDerivable), store.snapshots.audit("spring", 1):
        pass


def test_prune_takes_old_snapshots_only_and_charts_keep_all(engine, store, sender, now):
    record = sender.start(policy={"name": "thompson_gaussian"})
    for day in range(5):
        now[0] = 1.0 + day * 10 * DAY
        engine.choose("spring", [Request(f"u-{day}")])
        engine.learn("spring")
    points = [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)]
    engine.prune("spring")
    versions = range(1, store.experiments.record("spring").learned_version + 1)
    kept = [v for v in versions if store.snapshots.snapshot("spring", v).statistic]
    assert kept == [2, 3, 4, 5]  # version 1 is 40 days old, version 2 is 30
    assert [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)] == points
    assert store.snapshots.prune("spring", before=now[0] + 1, most=2) == 2
    assert (
        store.snapshots.prune("spring", before=now[0] + 1, most=2) == 1
    )  # the newest is never let go
    assert store.snapshots.prune("spring", before=now[0] + 1, most=2) == 0
    assert dump(load_statistic(record.configuration, store.snapshots.snapshot("spring", 5))[0])
