"""Opt-outs of subjects: no choice uses their data, in any experiment and process."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from bandits.engine import Engine
from bandits.errors import NotFound
from bandits.schemas import Request
from storage import open_store

CONTEXT = [{"name": "age", "kind": "number", "low": 0, "high": 100}]


@pytest.fixture
def started(sender):
    for key in ("spring", "summer"):
        sender.start(key, context=CONTEXT)


def contexts(engine, key, subjects, *, dry_run=False):
    """Choose for subjects whose age is 30, and read what was stored of it."""
    requests = [Request(subject, {"age": 30}) for subject in subjects]
    made = engine.choose(key, requests, dry_run=dry_run)
    stored = engine.store.log.decisions([decision.decision_id for decision in made])
    return [stored[decision.decision_id].context.tolist() for decision in made]


def unknown(engine, key):
    record = engine.store.experiments.record(key)
    return record.configuration.experiment.encoder().unknown_subject.tolist()


def test_opt_out_holds_in_every_experiment_for_that_subject_alone(engine, started):
    (first,) = engine.choose("spring", [Request("ann", {"age": 30})])
    engine.set_opt_out(first.decision_id, opted_out=True)
    ann, bob = contexts(engine, "spring", ["ann", "bob"])
    assert (ann, bob) == (unknown(engine, "spring"), [1.0, 0.3])
    assert contexts(engine, "summer", ["ann"]) == [unknown(engine, "summer")]
    engine.set_opt_out(first.decision_id, opted_out=False)
    assert contexts(engine, "spring", ["ann", "bob"]) == [[1.0, 0.3]] * 2


def test_opt_out_is_taken_up_by_another_process(engine, started, database_url, now):
    (first,) = engine.choose("spring", [Request("ann", {"age": 30})])
    with closing(open_store(database_url)) as store:
        other = Engine(store, engine.clock)
        assert contexts(other, "spring", ["bob", "ann"])[1] == [1.0, 0.3]
        for opted_out in (True, False, True):
            engine.set_opt_out(first.decision_id, opted_out=opted_out)
            expected = unknown(engine, "spring") if opted_out else [1.0, 0.3]
            assert contexts(other, "spring", ["bob", "ann"]) == [[1.0, 0.3], expected]
        assert other.has_opted_out(first.decision_id)


def test_id_that_comes_again_is_answered_as_before(engine, started):
    request = Request("ann", {"age": 30}, decision_id="d-1")
    (first,) = engine.choose("spring", [request])
    engine.set_opt_out("d-1", opted_out=True)
    (again,) = engine.choose("spring", [request])
    assert (again.repeat, again.slots) == (True, first.slots)
    assert engine.store.log.decisions(["d-1"])["d-1"].context.tolist() == [1.0, 0.3]


def test_opt_out_by_many_at_once_is_one(engine, started, now):
    made = engine.choose("spring", [Request("ann", {"age": 30}) for _ in range(8)])
    now[0] = 7.0
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(engine.set_opt_out, m.decision_id, opted_out=True) for m in made]
        for call in calls:
            call.result()
    assert all(engine.has_opted_out(m.decision_id) for m in made)
    assert engine.store.subjects.opted_out_at("ann") == 7.0
    assert len(engine.store.experiments.record("spring").opt_outs) == 1


def test_subject_s_data_tells_its_opt_out_and_erasing_ends_it(engine, started, now):
    (first,) = engine.choose("spring", [Request("ann", {"age": 30})])
    assert engine.subject("ann").opted_out_at is None
    now[0] = 7.0
    engine.set_opt_out(first.decision_id, opted_out=True)
    assert engine.subject("ann").opted_out_at.timestamp() == 7.0
    engine.erase("ann", by="test")
    assert engine.subject("ann").opted_out_at is None
    assert contexts(engine, "spring", ["ann"]) == [[1.0, 0.3]]
    with pytest.raises(NotFound):
        engine.set_opt_out(first.decision_id, opted_out=True)


def test_opt_out_of_an_unknown_decision_is_refused(engine, started):
    for call in (engine.has_opted_out, engine.explain_to_recipient):
        with pytest.raises(NotFound):
            call("nobody")


def test_receipt_of_who_opted_out_derives(engine, started):
    (first,) = engine.choose("spring", [Request("ann", {"age": 30})])
    engine.set_opt_out(first.decision_id, opted_out=True)
    (second,) = engine.choose("spring", [Request("ann", {"age": 30})])
    receipt = engine.receipt(second.decision_id)
    assert receipt.derived
    assert np.isclose(sum(receipt.propensities.values()), 1.0)
