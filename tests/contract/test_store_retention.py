"""Old decisions leave no row, and what was learned from them stays as it was, to the bit."""

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from sqlalchemy import delete, func, select

from bandits.engine import Engine
from bandits.engine.retention import remove_old
from bandits.errors import NotDerivable, NotFound
from bandits.inference.intervals import Interval
from bandits.schemas import Request, Reward
from storage.schema import (
    activations,
    allocations,
    batches,
    cancellations,
    decisions,
    events,
    subjects,
)
from storage.snapshots import backlog
from storage.snapshots.verify import compare
from tests.conftest import SOAK

DAY = 86_400.0
DAYS = 14 if SOAK else 7
RULE = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": 3600.0}
CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
PLAIN = {"policy": {"name": "thompson_gaussian"}}


@pytest.fixture
def now():
    return [DAY]


def count(store, table):
    with store.database.reading() as transaction:
        return transaction.execute(select(func.count()).select_from(table)).scalar_one()


def left(store, ids):
    return [i for i in ids if i in store.log.decisions(ids)]


def newest(store, key="spring"):
    return store.snapshots.snapshot(key, store.experiments.record(key).learned_version)


def agrees(store, key="spring"):
    """See that the log and its base say what is stored, and compare something."""
    with store.snapshots.audit(key) as audit:
        compared = compare(audit, lambda _: None)
    assert [d for c in compared for d in c.differences()] == []
    return compared


def known(snapshot):
    return snapshot.version, snapshot.statistic, snapshot.arm_counts, snapshot.inference_state


@pytest.mark.parametrize(
    "declared",
    [
        PLAIN,
        PLAIN | {"forgetting": {"half_life_seconds": 2 * DAY}},
        {
            "policy": {"name": "lints"},
            "context": CONTEXT,
            "forgetting": {"half_life_seconds": DAY},
        },
        PLAIN | {"forgetting": {"window_seconds": 1.5 * DAY}},
        PLAIN | {"await_activation": True, "holdout": 0.2},
    ],
    ids=["plain", "half-life", "by context", "window", "activated"],
)
def test_retention_leaves_folds_and_results_right_while_it_removes(
    engine, store, sender, now, declared
):
    """Send, correct, cancel, be late and remove day after day; the log agrees after every step."""
    sender.start(reward=RULE, retention_days=3, **declared)
    draws = np.random.default_rng(11)
    sent, removed = [], 0
    for day in range(DAYS):
        now[0] = (day + 1) * DAY
        people = [
            Request(f"u-{day}-{i}", {"recency": draws.random()} if "context" in declared else None)
            for i in range(12)
        ]
        ids = [d.decision_id for d in engine.choose("spring", people)]
        if "await_activation" in declared:
            engine.activate(ids[:-1])  # the last is never sent
        engine.learn("spring")
        now[0] += 2 * 3600.0
        engine.learn("spring")
        engine.reward([Reward(i, "a", "click") for i in ids if draws.random() < 0.4])
        engine.cancel(ids[:1])
        if sent:  # what comes late counts for nothing, what comes in time is learned later
            engine.reward([Reward(i, "b", "click") for i in sent[-1] if draws.random() < 0.3])
        if len(sent) > 1:
            engine.cancel(sent[-2][1:2])
        sent.append(ids)
        engine.learn("spring")
        before = known(newest(store))
        removed += remove_old(store, "spring", before=now[0] - 3 * DAY, between=int, most=7)
        assert known(newest(store)) == before
        agrees(store)
    assert left(store, [i for ids in sent[: DAYS - 4] for i in ids]) == []
    assert left(store, [i for ids in sent[DAYS - 3 :] for i in ids]) != []
    assert removed == count(store, decisions) * -1 + DAYS * 12 >= (DAYS - 4) * 12
    with store.database.reading() as transaction:
        serials = select(decisions.c.serial)
        for table in (events, activations, cancellations):
            orphans = select(table.c.decision).where(table.c.decision.not_in(serials))
            assert transaction.execute(orphans).all() == []
        oldest = transaction.execute(select(func.min(batches.c.created_at))).scalar_one()
    assert oldest > (DAYS - 4) * DAY


def test_verify_finds_a_removal_without_retained_sums(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    engine.choose("spring", [Request(f"u-{i}") for i in range(6)])
    now[0] += 2 * DAY + 1.0
    engine.learn("spring")
    assert engine.retain("spring") == 6
    with store.snapshots.audit("spring") as audit:
        assert audit.retained is not None
        compared = compare(replace(audit, retained=None), lambda _: None)
    assert {c.name for c in compared if c.wrong.any()} >= {"statistic.count", "arm_counts.sent"}


def test_decisions_that_may_still_change_are_retained(engine, store, sender, now):
    late = {"send_within_seconds": 30 * DAY}  # a cancellation comes after ten days
    record = sender.start(reward=RULE, retention_days=2, **late, **PLAIN)
    unseen = sender.choose(record, 2, at=0.0)
    now[0] = 10 * DAY
    assert engine.retain("spring") == 0  # no fold has seen them
    engine.learn("spring")
    sender.click(unseen[:1], at=10 * DAY, late=True)
    engine.cancel(unseen[1:])
    assert engine.retain("spring") == 0  # nor what follows them
    engine.learn("spring")
    assert engine.retain("spring") == 2
    assert engine.retain("spring") == 0
    agrees(store)


def test_retention_undeclared_removes_nothing(engine, store, sender, now):
    record = sender.start(reward=RULE, **PLAIN)
    sender.choose(record, 2, at=0.0)
    now[0] = 1000 * DAY
    engine.learn("spring")
    assert engine.retain("spring") == 0
    assert count(store, decisions) == 2


def test_rewards_of_a_removed_decision_are_unknown(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    (old,) = engine.choose("spring", [Request("u-0")])
    now[0] += 3 * DAY
    engine.learn("spring")
    engine.retain("spring")
    assert engine.reward([Reward(old.decision_id, "e", "click")]).unknown == [old.decision_id]
    assert engine.cancel([old.decision_id]).unknown == (old.decision_id,)
    with pytest.raises(NotFound):
        engine.receipt(old.decision_id)
    assert engine.erase("u-0", by="test").decisions == 0
    assert not engine.choose("spring", [Request("u-0")])[0].repeat
    agrees(store)


def test_reward_batches_without_rows_are_removed_in_time(engine, store, sender, now):
    """Repeats and early events: no row follows them, but what they told is still known."""
    record = sender.start(reward=RULE, retention_days=2, **PLAIN)
    (made,) = engine.choose("spring", [Request("u-0")])
    click = Reward(made.decision_id, "e", "click")
    for _ in range(4):
        engine.reward([click])
    store.log.note_unkept({record.id: 5}, {}, at=now[0])
    now[0] += 2 * DAY
    engine.reward([click])  # too young to go
    engine.learn("spring")
    before = store.experiments.record("spring").data_quality
    now[0] += DAY
    assert remove_old(store, "spring", before=now[0] - 2 * DAY, between=int, most=2) == 1
    with store.database.reading() as transaction:
        told = transaction.execute(select(batches.c.kind, batches.c.repeated)).all()
    assert told == [("reward", 1)]
    assert store.experiments.record("spring").data_quality == before
    assert (before.repeated, before.early) == (4, 5)
    agrees(store)


def test_a_subject_keeps_its_decision_until_the_experiment_is_stopped(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, assignment="per_subject", **PLAIN)
    (first,) = engine.choose("spring", [Request("u-0")])
    now[0] += 10 * DAY
    engine.learn("spring")
    assert engine.retain("spring") == 0
    (again,) = engine.choose("spring", [Request("u-0")])
    assert (again.decision_id, again.repeat) == (first.decision_id, True)
    engine.stop("spring", by="test")
    assert engine.retain("spring") == 1
    assert count(store, subjects) == 0
    agrees(store)


def test_shipped_decisions_are_removed_too(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    engine.choose("spring", [Request("u-0")])
    engine.stop("spring", by="test", ship={"subject": "b"})
    now[0] += 60.0
    engine.choose("spring", [Request("u-1"), Request("u-2")])
    now[0] += 5 * DAY
    engine.learn("spring")
    assert engine.retain("spring") == 3
    assert count(store, batches) == 0
    agrees(store)


def test_rebuild_of_a_version_with_removed_decisions_is_refused(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    engine.choose("spring", [Request("u-0")])
    engine.learn("spring")
    now[0] += 1.5 * DAY
    (later,) = engine.choose("spring", [Request("u-1")])
    engine.learn("spring")
    now[0] += DAY
    engine.learn("spring")
    assert engine.retain("spring") == 1
    assert engine.receipt(later.decision_id).derived  # its snapshot is kept for a while
    store.snapshots.prune("spring", range(1, 10))
    assert engine.receipt(later.decision_id).derived  # what it was drawn from is stored
    with store.database.writing() as transaction:
        transaction.execute(delete(allocations))
    assert "removed" in engine.receipt(later.decision_id).not_derivable
    with pytest.raises(NotDerivable), store.snapshots.audit("spring", 1):
        pass


def test_erase_and_retention_go_together(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    old = engine.choose("spring", [Request("u-0"), Request("u-1")])
    engine.reward([Reward(d.decision_id, "e", "click") for d in old])
    now[0] += 2.5 * DAY
    engine.choose("spring", [Request("u-0"), Request("u-2")])
    engine.learn("spring")
    assert engine.retain("spring") == 2
    agrees(store)
    assert engine.erase("u-0", by="test").decisions == 1  # the old one is a part of sums alone
    agrees(store)
    now[0] += 3 * DAY
    engine.learn("spring")
    assert engine.retain("spring") == 1
    assert engine.erase("u-2", by="test").decisions == 0
    agrees(store)
    assert count(store, decisions) == count(store, events) == count(store, batches) == 0
    assert [a.sent for a in engine.results("spring").arms if a.sent] != []


def test_results_survive_retention_with_their_intervals(engine, store, sender, now):
    sender.start(reward=RULE, retention_days=2, holdout=0.2, **PLAIN)
    people = [Request(f"u-{i}") for i in range(300)]
    for part in range(3):
        some = engine.choose("spring", people[part::3])
        engine.reward([Reward(d.decision_id, "e", "click") for d in some[:: part + 2]])
        now[0] += 0.5 * DAY
        engine.learn("spring")
    now[0] += 1.1 * DAY
    engine.learn("spring")
    before = engine.results("spring")
    assert all(isinstance(a.value, Interval) for a in before.arms)
    assert engine.retain("spring") == 200
    after = Engine(store, lambda: now[0]).results("spring")
    assert msgspec.json.encode(after) == msgspec.json.encode(before)


def test_retention_derives_from_few_policies_at_a_time(engine, store, sender, now, monkeypatch):
    sender.start(reward=RULE, retention_days=2, **PLAIN)
    for i in range(6):
        (one,) = engine.choose("spring", [Request(f"u-{i}")])
        engine.reward([Reward(one.decision_id, "e", "click")])
        now[0] += 3601.0
        engine.learn("spring")
    now[0] += 3 * DAY
    engine.learn("spring")
    monkeypatch.setattr(backlog, "MOST_ORIGINS", 2)
    pauses = []
    assert engine.retain("spring", between=lambda: pauses.append(count(store, decisions))) == 6
    assert pauses == [4, 2]
    agrees(store)
