"""Single choices that wait for each other are decided together, and answered as if alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from msgspec import convert, to_builtins
from msgspec.structs import replace
from sqlalchemy import func, select

from bandits.actors import PROGRAM
from bandits.engine import Engine, choose
from bandits.errors import IdReused, InvalidInput, Unavailable, WrongState
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from bandits.statistics import Moments
from storage import open_store
from storage.schema import batches, eligible_sets
from tests.patience import LIMIT_SECONDS, wait_until

RECENCY = {"kind": "number", "name": "recency", "low": 0, "high": 10}
MANY = 16


@pytest.fixture
def engine(store):
    return Engine(store)


@pytest.fixture
def other(database_url):
    """The engine of another server on the same database."""
    store = open_store(database_url)
    yield Engine(store)
    store.close()


@pytest.fixture
def at_once(engine, paused):
    """A function that has requests wait while another is committed, and then go on all at once."""

    def run(requests, between=None):
        with ThreadPoolExecutor(len(requests) + 1) as pool:
            with paused("append_decisions") as entered:
                first = pool.submit(engine.choose, "spring", [Request("first")])
                assert entered.wait(LIMIT_SECONDS)
                futures = [pool.submit(engine.choose, "spring", [r]) for r in requests]
                queue = engine._choose_handler._queues["spring", PROGRAM]
                wait_until(lambda: len(queue), "waiting requests", lambda n: n == len(requests))
                if between:
                    between()
            assert first.exception() is None or between
            return [f.exception() or f.result()[0] for f in futures]

    return run


def admitted(store):
    with store.database.reading() as transaction:
        return transaction.execute(select(func.count()).select_from(eligible_sets)).scalar_one()


def sizes(store):
    with store.database.reading() as transaction:
        query = select(batches.c.size).order_by(batches.c.id)
        return transaction.execute(query).scalars().all()


def test_a_group_is_one_batch_and_each_of_it_gets_what_it_would_have_got_alone(
    store, engine, sender, at_once
):
    sender.start(context=[RECENCY], policy={"name": "lints"}, holdout=0.2)
    kinds = [
        Request("u", {"recency": 3.0}),
        Request("u", None, None, {"subject": ["b", "c"]}, personalize=False),
        Request("u", {"recency": 99.0}),
    ]
    requests = [
        replace(kinds[i % 3], subject_id=f"u{i}", decision_id=f"d{i}" if i % 2 else None)
        for i in range(MANY)
    ]
    answers = at_once(requests)
    assert sizes(store) == [1, MANY]
    assert [type(a) for a in answers] == [Decision] * MANY
    assert not any(a.repeat or (a.fallback and not a.holdout) for a in answers)
    assert len({a.holdout for a in answers}) == 2
    assert [a.decision_id for a in answers[1::2]] == [f"d{i}" for i in range(1, MANY, 2)]
    assert len({a.decision_id for a in answers}) == MANY
    for request, answer in zip(requests, answers, strict=True):
        receipt = engine.receipt(answer.decision_id)  # which derives it by itself
        assert receipt.holdout or receipt.derived
        assert (receipt.slots, receipt.propensity) == (answer.slots, answer.propensity)
        assert receipt.holdout == answer.holdout
        eligible = request.eligible or {"subject": ["a", "b", "c"]}
        assert receipt.holdout or answer.slots["subject"]["variant"] in eligible["subject"]


def test_decision_id_asked_for_by_a_whole_group_is_one_decision(store, sender, at_once):
    sender.start()
    answers = at_once([Request("u", decision_id="mine")] * MANY)
    assert sorted(a.repeat for a in answers) == [False] + [True] * (MANY - 1)
    assert {(a.decision_id, str(a.slots), a.propensity) for a in answers} == {
        ("mine", str(answers[0].slots), 1 / 3)
    }
    assert sum(sizes(store)) == 2


def test_decision_id_with_two_bodies_is_refused_to_the_later_request(store, sender, at_once):
    sender.start()
    answers = at_once([Request(f"u{i}", decision_id="mine") for i in range(4)])
    assert sorted(type(a).__name__ for a in answers) == ["Decision"] + ["IdReused"] * 3
    assert sum(sizes(store)) == 2


@pytest.mark.parametrize(
    "refused",
    [
        (Request("u", {"recency": "three"}), InvalidInput),
        (Request("u", {"colour": 1.0}), InvalidInput),
        (Request("u", None, None, {"subject": ["d"]}), InvalidInput),
        (Request("u", decision_id="known"), IdReused),
    ],
)
def test_refused_request_fails_alone(store, engine, sender, at_once, refused):
    bad, error = refused
    sender.start(context=[RECENCY])
    engine.choose("spring", [Request("other", decision_id="known")])
    good = [Request(f"u{i}", decision_id=f"d{i}") for i in range(MANY - 1)]
    answers = at_once([*good[:5], bad, *good[5:]])
    told = answers.pop(5)
    with pytest.raises(error) as alone:
        engine.choose("spring", [bad])
    assert (type(told), str(told)) == (error, str(alone.value))
    assert [a.decision_id for a in answers] == [r.decision_id for r in good]
    assert len(store.log.decisions([r.decision_id for r in good])) == MANY - 1


def restricted(name, variants):
    return Request(name, decision_id=name, eligible={"subject": list(variants)})


def test_eligible_set_limit_refuses_only_the_requests_beyond_it(
    store, engine, sender, at_once, monkeypatch
):
    monkeypatch.setattr(choose, "MOST_SETS", 3)  # of which one actor may introduce two
    monkeypatch.setattr(choose, "_LEAST_SETS", 3)
    sender.start()
    engine.choose("spring", [restricted("x", "ab"), restricted("y", "c")])
    good = [restricted("g0", "ba"), restricted("g1", "c"), Request("u", decision_id="g2")]
    bad = [restricted("bad", "bc"), restricted("worse", "a")]
    answers = at_once([good[0], bad[0], good[1], bad[1], good[2]])
    for request, told in zip(bad, answers[1::2], strict=True):
        with pytest.raises(InvalidInput) as alone:
            engine.choose("spring", [request])
        assert told.faults == alone.value.faults
        assert told.faults[0].pointer == "/requests/0/eligible"
        assert "of the 3 that" in told.faults[0].detail
    assert [a.decision_id for a in answers[::2]] == ["g0", "g1", "g2"]
    assert len(store.log.decisions(["g0", "g1", "g2", "bad", "worse"])) == 3
    assert admitted(store) == 2


def test_eligible_set_limit_gives_its_last_place_to_one_set_of_a_group(
    store, sender, at_once, monkeypatch
):
    monkeypatch.setattr(choose, "MOST_SETS", 2)  # of which one actor may introduce one
    monkeypatch.setattr(choose, "_LEAST_SETS", 2)
    sender.start()
    answers = at_once([restricted(f"u{i}", "ab" if i % 2 else "bc") for i in range(8)])
    taken = [type(a) for a in answers]
    refused = choose.TooManySets
    assert taken in ([Decision, refused] * 4, [refused, Decision] * 4)
    assert admitted(store) == 1
    assert len(store.log.decisions([f"u{i}" for i in range(8)])) == 4


def test_repeats_among_new_requests_are_answered_as_before(store, engine, sender, at_once):
    sender.start()
    known = [Request(f"k{i}", decision_id=f"k{i}") for i in range(4)]
    before = engine.choose("spring", known)
    answers = at_once([*known, *(Request(f"u{i}") for i in range(4))])
    assert answers[:4] == [replace(b, repeat=True) for b in before]
    assert [a.repeat for a in answers[4:]] == [False] * 4
    assert sizes(store) == [4, 1, 4]


def test_a_subject_asked_for_by_a_whole_group_has_one_decision(store, sender, at_once):
    sender.start(assignment="per_subject")
    requests = [Request("ann")] * 8 + [Request(f"u{i}") for i in range(8)]
    answers = at_once(requests)
    assert len({a.decision_id for a in answers[:8]}) == 1
    assert sorted(a.repeat for a in answers[:8]) == [False] + [True] * 7
    assert len({a.decision_id for a in answers}) == 9
    assert sum(sizes(store)) == 10
    assert len(store.log.decisions([a.decision_id for a in answers])) == 9


def test_experiment_paused_meanwhile_refuses_the_whole_group(store, sender, other, at_once):
    sender.start()
    answers = at_once([Request(f"u{i}") for i in range(4)], lambda: other.pause("spring", by="x"))
    assert [type(a) for a in answers] == [WrongState] * 4
    assert sizes(store) == []


def test_experiment_edited_meanwhile_decides_the_group_anew(store, sender, other, at_once):
    old = sender.start().configuration
    slots = [{"key": "subject", "variants": [{"key": v} for v in "abcd"]}]
    new = convert(to_builtins(old.experiment) | {"slots": slots}, Experiment)
    answers = at_once(
        [Request(f"u{i}") for i in range(4)],
        lambda: other.edit("spring", new, version=old.version, by="x"),
    )
    stored = store.log.decisions([a.decision_id for a in answers])
    assert [d.configuration_version for d in stored.values()] == [old.version + 1] * 4


class Picky:
    """A policy that cannot decide for some contexts, nor for a batch with such."""

    statistic = Moments

    def prepare(self, *_given):
        """Have nothing to prepare."""

    def propensities(self, _prepared, contexts):
        if contexts[:, 1].max() > 0.9:
            raise ZeroDivisionError
        return np.full((len(contexts), 3), 1 / 3)


def test_policy_failure_gives_the_control_to_its_request_alone(store, engine, sender, at_once):
    record = sender.start(context=[RECENCY])
    engine._policies.newest(record).policy = Picky()
    requests = [Request(f"u{i}", {"recency": 10.0 if i == 3 else 1.0}) for i in range(8)]
    answers = at_once(requests)
    assert [a.fallback for a in answers] == [i == 3 for i in range(8)]
    assert sum(sizes(store)) == 9


def test_failed_commit_is_told_to_every_request_of_the_group(
    store, engine, sender, at_once, monkeypatch
):
    sender.start()
    engine.choose("spring", [Request("u")])

    def fail(*_):
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        answers = at_once(
            [Request(f"u{i}") for i in range(4)],
            lambda: patch.setattr(store.database, "append", fail),
        )
    assert [(type(a), str(a)) for a in answers] == [(Unavailable, "the disk is full")] * 4
    assert sizes(store) == [1]
    assert not engine.choose("spring", [Request("u")])[0].repeat  # the queue goes on
