"""Sums that an earlier version did not keep are made anew in portions, while everything goes on."""

import msgspec
import numpy as np
import pytest
from sqlalchemy import select, text, update

from bandits.engine import Engine
from bandits.engine.sum_anew import sum_anew
from bandits.engine.sums import load_inference_state
from bandits.inference.intervals import RESUMMING
from bandits.inference.state import InferenceState
from bandits.schemas import Request, Reward
from storage.schema import allocations, resummations
from storage.snapshots.verify import compare

DAY = 86_400.0
RULE = {"metrics": {"click": {}}, "window_seconds": DAY, "maturity_seconds": 3600.0}
DECLARED = {"policy": {"name": "thompson_gaussian"}, "reward": RULE, "holdout": 0.2}
FORMAT = 2  # which has neither clusters nor what is left out
FORMAT_BEFORE_PAIRS = 3


@pytest.fixture
def now():
    return [DAY]


def send(engine, now, n, rewards=0.3):
    """Choose for n recipients who come again every day; some click."""
    draws = np.random.default_rng(int(now[0]))
    requests = [Request(f"u-{i}") for i in range(n)]
    ids = [d.decision_id for d in engine.choose("spring", requests)]
    engine.activate(ids)
    clicked = [i for i in ids if draws.random() < rewards]
    engine.reward([Reward(i, f"e-{i}", "click") for i in clicked])
    return ids


def campaign(engine, sender, now, days=4, emails=20, **declared):
    sender.start(**(DECLARED | declared))
    ids = []
    for _ in range(days):
        ids += send(engine, now, emails)
        now[0] += DAY / 2
        engine.learn("spring")
        now[0] += DAY / 2
        engine.learn("spring")
    return ids


def to_older(store, table, column, number):
    """Store what an earlier version would have."""
    n_fields = len(InferenceState.fields_since(number))
    with store.database.writing() as transaction:
        for stored in transaction.execute(text(f"SELECT {column} FROM {table}")).scalars():  # noqa: S608
            parts = msgspec.msgpack.decode(bytes(stored)[2:])[1 : 1 + n_fields]
            older = b"\xc1" + bytes([number]) + msgspec.msgpack.encode([number, *parts])
            query = text(f"UPDATE {table} SET {column} = :older")  # noqa: S608
            transaction.execute(query.bindparams(older=older))


def upgrade(store, number=FORMAT):
    """Make the database one that an earlier version wrote."""
    to_older(store, "inference_states", "content", number)
    to_older(store, "retained_sums", "inference_state", number)
    with store.database.writing() as transaction:
        transaction.execute(text("DELETE FROM allocations"))


def agrees(store):
    with store.snapshots.audit("spring") as audit:
        compared = compare(audit, lambda _: None)
    assert [d for c in compared for d in c.differences()] == []
    return {c.name for c in compared}


def state(store):
    record = store.experiments.record("spring")
    snapshot = store.snapshots.snapshot("spring", record.learned_version)
    return load_inference_state(record.configuration, snapshot)


def portion(store, most=15):
    return sum_anew(store, "spring", between=lambda: None, most=most, portions=1)


def interrupt(store):
    """Sum a portion, and end before it is committed."""
    with store.snapshots.resum("spring", most=15) as next_portion:
        next_portion.save(msgspec.structs.replace(next_portion.resummation, inference_state=b"x"))
        raise InterruptedError


def test_resummation_gives_what_was_there_and_what_was_not(engine, store, sender, now):
    campaign(engine, sender, now)
    whole, gain = state(store), engine.results("spring").gain
    upgrade(store)
    engine = Engine(store, clock=lambda: now[0])  # of the newer version
    results = engine.results("spring")
    assert (results.health.resummed, results.gain.over_control_group) == (0.0, RESUMMING)
    assert "results.clusters" not in agrees(store)
    steps = 0
    while not portion(store):
        assert 0 < engine.results("spring").health.resummed <= 1
        steps += 1
    assert steps >= 4
    assert "results.clusters" in agrees(store)
    for name, array in state(store).parts(like=whole).items():
        np.testing.assert_allclose(array, whole.parts(like=whole)[name], rtol=1e-12)
    assert engine.results("spring").health.resummed is None
    assert engine.results("spring").gain == gain
    assert portion(store)  # nothing is left


@pytest.mark.parametrize("waiting", [False, True])
def test_resummation_takes_in_what_comes_meanwhile(engine, store, sender, now, waiting):
    ids = campaign(engine, sender, now, days=2, await_activation=waiting)
    upgrade(store)
    draws = np.random.default_rng(3)
    for step in range(8):
        assert portion(store, most=10) <= (step > 3)
        now[0] += DAY / 7
        engine.reward([Reward(i, f"late-{i}", "click") for i in draws.choice(ids, 3).tolist()])
        engine.cancel(draws.choice(ids, 2).tolist())
        if step == 3:
            engine.erase("u-3", by="test")
        ids += send(engine, now, 5)
        engine.learn("spring")
        agrees(store)
        ids = list(store.log.decisions(ids))
    while not portion(store):
        agrees(store)
    assert "results.clusters" in agrees(store)
    assert len(state(store).clusters.spread[0].nonzero()[0]) > 1


def test_resummation_interrupted_goes_on_where_it_was(engine, store, sender, now):
    campaign(engine, sender, now)
    whole = state(store)
    upgrade(store)
    portion(store)

    with pytest.raises(InterruptedError):
        interrupt(store)
    while not portion(store):
        pass
    np.testing.assert_array_equal(state(store).clusters.spread, whole.clusters.spread)


def test_resummation_leaves_out_what_retention_had_removed(engine, store, sender, now):
    campaign(engine, sender, now, days=5, retention_days=2, assignment="per_decision")
    removed = engine.retain("spring")
    assert removed > 0
    whole = state(store)
    upgrade(store)
    assert engine.retain("spring") == 0  # until it is done
    now[0] += DAY
    engine.learn("spring")
    while not portion(store):
        agrees(store)
    agrees(store)
    after = state(store)
    assert after.arms.sends.sum() >= whole.arms.sends.sum()
    assert after.left_out.total == removed
    assert engine.results("spring").health.left_out == removed
    assert after.groups.sends.sum() - after.clusters.decisions == removed
    assert engine.retain("spring") > 0
    agrees(store)


def test_resummation_stores_allocations_that_can_be_derived(engine, store, sender, now):
    campaign(engine, sender, now)
    with store.database.reading() as transaction:
        before = transaction.execute(select(allocations)).all()
    upgrade(store)
    while not portion(store):
        pass
    with store.database.reading() as transaction:
        assert transaction.execute(select(allocations)).all() == before


def test_resummation_of_an_even_older_one_begins_anew(engine, store, sender, now):
    campaign(engine, sender, now)
    whole = state(store)
    upgrade(store)
    portion(store)
    with store.database.writing() as transaction:
        content = msgspec.msgpack.encode([FORMAT])  # of an upgrade that never came to its end
        transaction.execute(update(resummations).values(content=content))
    assert engine.results("spring").health.resummed == 0.0
    now[0] += 1.0
    engine.learn("spring")
    while not portion(store):
        pass
    np.testing.assert_array_equal(state(store).clusters.spread, whole.clusters.spread)


def test_state_of_an_older_format_has_its_own_fields(engine, store, sender, now):
    campaign(engine, sender, now)
    whole = state(store)
    upgrade(store)
    older = state(store)
    for name in InferenceState.fields_since(FORMAT):
        for part, array in older.parts(like=whole).items():
            if part.partition(".")[0] == name:
                np.testing.assert_array_equal(array, whole.parts(like=whole)[part])
    assert older.left_out.total == whole.groups.sends.sum()
    assert not older.clusters.moments.size


def test_resummation_of_pairs_leaves_lifts_by_inverse_propensity_until_it_is_done(
    engine, store, sender, now
):
    campaign(engine, sender, now, days=5, emails=300, policy={"name": "uniform"})
    whole, lift = state(store), engine.results("spring").arms[1].lift
    assert lift.promise == "overlap"
    upgrade(store, FORMAT_BEFORE_PAIRS)
    engine = Engine(store, clock=lambda: now[0])
    assert engine.results("spring").arms[1].lift.promise == "weighted"
    assert state(store).left_out.total == 0
    assert "results.overlap.sums" not in agrees(store)
    while not portion(store, most=100):
        pass
    assert "results.overlap.sums" in agrees(store)
    np.testing.assert_allclose(state(store).overlap.sums, whole.overlap.sums, rtol=1e-12)
    again = engine.results("spring").arms[1].lift
    assert (again.low, again.high) == pytest.approx((lift.low, lift.high))


def test_resummation_of_many_days_keeps_the_last_ones_apart(engine, store, sender, now):
    campaign(engine, sender, now, days=9)
    upgrade(store)
    for _ in range(4):
        assert not portion(store, most=20)
    for _ in range(3):  # what was recent in the first portions is so no more
        send(engine, now, 20)
        now[0] += DAY
        engine.learn("spring")
    while not portion(store, most=20):
        pass
    assert "results.recent.moments" in agrees(store)


def test_resummation_records_no_statement_before_it_has_every_decision(engine, store, sender, now):
    sender.start(**(DECLARED | {"policy": {"name": "uniform"}, "holdout": 0.0}))
    chosen = engine.choose("spring", [Request(f"u-{i}") for i in range(600)])
    better = [d.decision_id for d in chosen if d.slots["subject"]["variant"] == "b"]
    engine.reward([Reward(i, "e", "click") for i in better])
    now[0] += 2 * DAY
    engine.learn("spring")
    assert store.snapshots.statements("spring").statements
    with store.database.writing() as transaction:
        transaction.execute(text("DELETE FROM statements"))
    upgrade(store)
    engine = Engine(store, clock=lambda: now[0])  # of the newer version
    send(engine, now, 5)
    now[0] += 2 * DAY
    engine.learn("spring")
    assert store.snapshots.statements("spring").statements == ()
    while not portion(store):
        pass
    send(engine, now, 5)
    now[0] += 2 * DAY
    engine.learn("spring")
    assert store.snapshots.statements("spring").statements
