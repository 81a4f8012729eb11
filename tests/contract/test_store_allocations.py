"""Probabilities of policies without context are stored as decisions are counted, and stay."""

import numpy as np
import pytest

from bandits.engine import Engine
from bandits.engine.sums import load_inference_state
from bandits.schemas import Request, Reward
from storage.snapshots.verify import compare

DAY = 86_400.0
RULE = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": 3600.0}
PLAIN = {"policy": {"name": "thompson_gaussian"}, "reward": RULE}
KEEP_A = {"subject": ["a", "b"]}


@pytest.fixture
def now():
    return [DAY]


def choose(engine, *subjects, **request):
    requests = [Request(subject, **request) for subject in subjects]
    return [d.decision_id for d in engine.choose("spring", requests)]


def sent(store):
    """Return the decisions that the sample ratio counts, and all that were sent, by arm."""
    record = store.experiments.record("spring")
    snapshot = store.snapshots.snapshot("spring", record.learned_version)
    inference = load_inference_state(record.configuration, snapshot)
    with store.snapshots.audit("spring") as audit:
        compared = {c.name: c for c in compare(audit, lambda _: None)}
    assert [d for c in compared.values() for d in c.differences()] == []
    assert "results.ratio.expected" in compared
    return inference.ratio.sent.tolist(), compared["arm_counts.sent"].stored[:-1].tolist()


def allocation(store, engine, decision_id):
    stored = store.log.decisions([decision_id])[decision_id]
    return store.snapshots.allocation(
        "spring", stored.configuration_version, stored.policy_version, stored.eligible_set
    )


def test_allocation_is_stored_by_the_fold_that_first_counts_a_decision(engine, store, sender, now):
    sender.start(**PLAIN)
    (first,) = choose(engine, "u-0")
    (restricted,) = choose(engine, "u-1", eligible=KEEP_A)
    assert allocation(store, engine, first) is None
    engine.learn("spring")
    np.testing.assert_array_equal(
        allocation(store, engine, first), list(engine.receipt(first).propensities.values())
    )
    among_two = allocation(store, engine, restricted)
    assert (among_two.shape, among_two[2], among_two.sum()) == ((3,), 0.0, 1.0)


def test_allocation_of_held_out_decisions_alone_is_stored_as_well(engine, store, sender, now):
    sender.start(**PLAIN, holdout=0.5)
    subjects = [f"u-{i}" for i in range(30)]
    held_out = [d.holdout for d in engine.choose("spring", [Request(s) for s in subjects])]
    engine.learn("spring")  # the next ones are of another snapshot
    alone = [s for s, out in zip(subjects, held_out, strict=True) if out]
    ids = choose(engine, *alone)
    assert allocation(store, engine, ids[0]) is None
    engine.learn("spring")
    assert allocation(store, engine, ids[0]).sum() == pytest.approx(1.0)


def test_allocation_outlives_erasing_and_pruning(engine, store, sender, now):
    sender.start(**PLAIN)
    ids = []
    for day in range(4):
        ids += choose(engine, *(f"u-{day}-{i}" for i in range(5)), "erased")
        engine.reward([Reward(ids[-2], "e", "click")])
        now[0] += DAY / 2
        engine.learn("spring")
    late = choose(engine, "u-9")  # of the newest snapshot, which the erasure empties
    receipts = {i: engine.receipt(i).propensities for i in store.log.decisions([*ids, *late])}
    engine.erase("erased", by="test")
    assert sent(store)[0] == sent(store)[1]
    now[0] += 40 * DAY
    engine.learn("spring")
    engine.prune("spring")
    engine.reward([Reward(ids[0], "late", "click")])
    engine.cancel([ids[1], *late])
    engine.learn("spring")
    assert sent(store)[0] == sent(store)[1]
    kept = store.log.decisions([*ids, *late])
    for decision_id in kept:
        receipt = Engine(store, clock=lambda: now[0]).receipt(decision_id)
        assert receipt.derived
        assert receipt.propensities == pytest.approx(receipts[decision_id], abs=1e-12)


def test_allocation_of_decisions_that_wait_is_stored_before_they_start(engine, store, sender, now):
    sender.start(**PLAIN, await_activation=True)
    ids = choose(engine, "u-0", "erased")
    engine.learn("spring")
    assert allocation(store, engine, ids[0]) is not None
    later = choose(engine, "u-1")
    engine.erase("erased", by="test")
    engine.activate([ids[0], *later])
    engine.learn("spring")
    assert sent(store)[0] == sent(store)[1]
    assert sum(sent(store)[1]) == 2


def test_allocation_has_zeros_for_versions_that_joined_later(engine, store, sender, now):
    record = sender.start(**PLAIN)
    (first,) = choose(engine, "u-0")
    engine.learn("spring")
    slot = record.configuration.experiment.slots[0]
    joined = type(slot)(slot.key, (*slot.variants, type(slot.variants[0])("d")))
    declared = record.configuration.experiment
    changed = type(declared)(
        **{n: getattr(declared, n) for n in declared.__struct_fields__} | {"slots": (joined,)}
    )
    engine.edit("spring", changed, version=1, by="test")
    assert allocation(store, engine, first).shape == (4,)
    assert allocation(store, engine, first)[3] == 0


def test_allocation_of_a_policy_that_uses_the_context_is_not_stored(engine, store, sender, now):
    sender.start(**PLAIN | {"policy": {"name": "lints"}})
    (first,) = choose(engine, "u-0")
    engine.learn("spring")
    assert allocation(store, engine, first) is None


def test_prune_keeps_a_snapshot_whose_decisions_are_not_counted(engine, store, sender, now):
    sender.start(**PLAIN)
    choose(engine, "u-0")
    engine.learn("spring")
    choose(engine, "u-1")  # from version 1
    now[0] += 2 * DAY
    assert store.snapshots.prune("spring", [1]) == 0
    assert engine.prune("spring", most_bytes=1).by_size == []
    engine.learn("spring")
    choose(engine, "u-2")
    now[0] += 2 * DAY
    engine.learn("spring")
    assert store.snapshots.prune("spring", range(1, 9)) == 2
