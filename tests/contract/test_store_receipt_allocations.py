"""Receipts of policies with context: what is kept of single decisions, and for how long."""

import numpy as np
import pytest
from sqlalchemy import delete, select

from bandits.engine import receipt_sample
from bandits.errors import Unavailable
from bandits.schemas import Request
from storage.schema import decisions, receipt_allocations
from storage.snapshots.receipt_allocations import are_sampled

DAY = 86_400.0
CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
RULE = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": 10.0}
PERSONAL = {"policy": {"name": "lints"}, "context": CONTEXT, "reward": RULE}


@pytest.fixture
def few(monkeypatch) -> int:
    """A bound of three decisions in the sample, and of three that were asked for."""
    monkeypatch.setattr(receipt_sample, "_MOST", 3)
    return 3


def choose(engine, *subjects, personal=True):
    contexts = [{"recency": (i + 1) / 50} if personal else None for i in range(len(subjects))]
    requests = list(map(Request, subjects, contexts))
    return [d.decision_id for d in engine.choose("spring", requests)]


def first_version(engine, now, *, personal=True):
    """Learn version 1, from a decision that rests on nothing learned."""
    choose(engine, "first", personal=personal)
    now[0] += 20.0
    engine.learn("spring")


def kept_ids(store, *, asked=None):
    query = select(decisions.c.id).join(
        receipt_allocations, receipt_allocations.c.decision == decisions.c.serial
    )
    if asked is not None:
        noted = receipt_allocations.c.asked_at.is_not(None)
        query = query.where(noted if asked else ~noted)
    with store.database.reading() as transaction:
        return sorted(transaction.execute(query).scalars())


def test_receipt_is_kept_by_the_fold_that_counts_a_decision(engine, store, sender, now):
    sender.start(**PERSONAL)
    first_version(engine, now)
    (decision,) = choose(engine, "u-1")
    assert store.snapshots.receipt_allocation(decision) is None
    engine.learn("spring")
    row = store.snapshots.receipt_allocation(decision)
    assert not row.requested
    receipt = engine.receipt(decision)
    assert (receipt.derived, receipt.derived_from, receipt.policy_version) == (True, "snapshot", 1)
    assert row.probabilities == pytest.approx(list(receipt.propensities.values()), abs=1e-12)
    assert receipt.predictions is not None
    now[0] += 20.0
    engine.erase("first", by="test")
    after = engine.receipt(decision)
    assert (after.derived, after.derived_from, after.predictions) == (True, "kept", None)
    assert after.propensities == pytest.approx(receipt.propensities, abs=1e-12)
    assert after.uniform == receipt.uniform


def test_receipt_of_an_uncounted_decision_is_kept_by_an_erasure(engine, store, sender, now):
    sender.start(**PERSONAL)
    first_version(engine, now)
    (decision,) = choose(engine, "u-1")
    engine.erase("first", by="test")
    assert engine.receipt(decision).derived_from == "kept"


def test_receipt_that_was_asked_for_outlives_the_sample(engine, store, sender, now, few):
    sender.start(**PERSONAL)
    first_version(engine, now)
    ids = choose(engine, *(f"u-{i}" for i in range(40)))
    engine.learn("spring")
    assert len(kept_ids(store)) < 20  # three of forty, as the hashes have it
    others = [i for i in ids if i not in kept_ids(store)]
    for decision in others[:2]:
        now[0] += 1.0
        assert engine.receipt(decision).derived_from == "snapshot"
    assert kept_ids(store, asked=True) == sorted(others[:2])
    engine.erase("first", by="test")
    assert [engine.receipt(i).derived_from for i in others[:3]] == ["kept", "kept", None]
    assert "erased" in engine.receipt(others[2]).not_derivable


def test_receipt_of_the_sample_that_is_asked_for_stays_where_the_sample_shrinks(
    engine, store, sender, now
):
    sender.start(**PERSONAL)
    first_version(engine, now)
    ids = choose(engine, *(f"u-{i}" for i in range(4)))
    engine.learn("spring")
    engine.receipt(ids[1])
    at = now[0]
    now[0] += 5.0
    engine.receipt(ids[1])  # again: noted once
    with store.database.reading() as transaction:
        noted = select(receipt_allocations.c.asked_at).order_by(receipt_allocations.c.asked_at)
        assert sorted(t for t in transaction.execute(noted).scalars() if t is not None) == [at]
    assert store.snapshots.prune_receipts("spring", share=0.0, most_asked=9, most=2) == 2
    assert store.snapshots.prune_receipts("spring", share=0.0, most_asked=9, most=2) == 1
    assert store.snapshots.prune_receipts("spring", share=0.0, most_asked=9, most=2) == 0
    assert kept_ids(store) == [ids[1]]


def test_prune_holds_receipts_in_their_bounds(engine, store, sender, now, few):
    sender.start(**PERSONAL)
    first_version(engine, now)
    ids = choose(engine, *(f"u-{i}" for i in range(60)))
    engine.learn("spring")
    for decision in ids[:5]:
        now[0] += 1.0
        engine.receipt(decision)
    engine.prune("spring")
    assert kept_ids(store, asked=True) == sorted(ids[2:5])  # what was asked for first is gone
    with store.database.reading() as transaction:
        serials = np.array(transaction.execute(select(decisions.c.serial)).scalars().all())
    assert len(kept_ids(store, asked=False)) <= are_sampled(serials, 3 / 61).sum()


def test_sample_is_part_of_a_larger_one_and_has_its_share():
    serials = (np.arange(50)[:, None] * 2**20 + np.arange(200)).reshape(-1)
    small, large = are_sampled(serials, 0.05), are_sampled(serials, 0.3)
    assert not (small & ~large).any()
    assert small.mean() == pytest.approx(0.05, abs=0.01)
    assert large.mean() == pytest.approx(0.3, abs=0.02)
    assert are_sampled(serials, 1.0).all()
    assert not are_sampled(serials, 0.0).any()
    singles = are_sampled(np.arange(10_000) * 2**20, 0.3)  # each in a batch of its own
    assert singles.mean() == pytest.approx(0.3, abs=0.02)


def test_receipt_rests_on_the_log_where_nothing_else_is_kept(engine, store, sender, now):
    sender.start(**PERSONAL)
    first_version(engine, now)
    (decision,) = choose(engine, "u-1")
    engine.learn("spring")
    before = engine.receipt(decision)
    with store.database.writing() as transaction:
        transaction.execute(delete(receipt_allocations))
    now[0] += 3 * DAY
    choose(engine, "u-2")
    engine.learn("spring")
    engine.prune("spring", most_bytes=1)
    after = engine.receipt(decision)
    assert (after.derived, after.derived_from) == (True, "log")
    assert after.propensities == pytest.approx(before.propensities, abs=1e-9)
    assert engine.receipt(decision).derived_from == "kept"  # since it was asked for


def test_receipt_is_answered_where_nothing_can_be_kept(engine, store, sender, now, monkeypatch):
    sender.start(**PERSONAL)
    first_version(engine, now)
    (decision,) = choose(engine, "u-1")

    def refuse(*_args, **_options):
        raise Unavailable("read-only", retry_after_seconds=1)

    monkeypatch.setattr(store.snapshots, "keep_receipt", refuse)
    assert engine.receipt(decision).derived_from == "snapshot"
    assert kept_ids(store) == []


def test_erase_and_retention_take_what_is_kept_for_receipts(engine, store, sender, now):
    sender.start(**PERSONAL | {"retention_days": 2})
    first_version(engine, now)
    ids = choose(engine, "u-1", "u-2")
    engine.learn("spring")
    assert kept_ids(store) == sorted(ids)
    engine.erase("u-1", by="test")
    assert kept_ids(store) == ids[1:]
    now[0] += 4 * DAY
    engine.learn("spring")
    assert engine.retain("spring") == 2
    with store.database.reading() as transaction:
        assert transaction.execute(select(receipt_allocations.c.decision)).all() == []


def test_receipt_of_a_plain_policy_names_the_shares(engine, store, sender, now):
    sender.start(policy={"name": "thompson_gaussian"}, reward=RULE)
    first_version(engine, now, personal=False)
    (decision,) = choose(engine, "u-1", personal=False)
    engine.learn("spring")
    assert engine.receipt(decision).derived_from == "snapshot"
    assert kept_ids(store) == []
    engine.erase("first", by="test")
    assert engine.receipt(decision).derived_from == "shares"


def test_snapshot_stays_for_decisions_that_wait_to_be_sent(engine, store, sender, now):
    sender.start(**PERSONAL | {"await_activation": True})
    first = choose(engine, "first")
    engine.activate(first)
    now[0] += 20.0
    engine.learn("spring")
    sent, waiting, dropped = choose(engine, "u-1", "u-2", "u-3")  # of version 1
    engine.activate([sent])
    engine.learn("spring")
    now[0] += 3 * DAY
    engine.activate(choose(engine, "u-4"))
    engine.learn("spring")
    assert engine.prune("spring", most_bytes=1).by_age == []
    assert len(store.snapshots.snapshot("spring", 1).statistic) > 0
    engine.cancel([dropped])
    assert engine.prune("spring", most_bytes=1).by_age == []
    engine.activate([waiting])
    engine.learn("spring")
    assert waiting in kept_ids(store, asked=False)
    engine.prune("spring", most_bytes=1)
    assert store.snapshots.snapshot("spring", 1).statistic == b""
    assert engine.receipt(waiting).derived_from == "kept"


def test_snapshot_does_not_wait_for_ever(engine, store, sender, now):
    sender.start(**PERSONAL | {"await_activation": True})
    engine.activate(choose(engine, "first"))
    now[0] += 20.0
    engine.learn("spring")
    choose(engine, "u-1")
    engine.learn("spring")
    now[0] += 29 * DAY
    engine.activate(choose(engine, "u-2"))
    engine.learn("spring")
    engine.prune("spring", most_bytes=1)
    assert store.snapshots.snapshot("spring", 1).statistic
    now[0] += 2 * DAY
    engine.prune("spring", most_bytes=1)
    assert not store.snapshots.snapshot("spring", 1).statistic
