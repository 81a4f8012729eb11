"""Calls that wait for each other's commit are committed together, and fail each alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import event, select

from bandits.engine import Engine
from bandits.engine.fold import fold, rebuild
from bandits.errors import IdReused, Unavailable, WrongState
from bandits.schemas import Request
from bandits.store import StaleRead
from bandits.store.values import Event, MarkResult
from storage import open_store
from storage.schema import batches
from tests.patience import wait_until


@pytest.fixture
def at_once(store, held):
    """A function that has calls wait in the queue, and then go on all at once."""

    def run(calls):
        with ThreadPoolExecutor(len(calls)) as pool:
            with held():
                futures = [pool.submit(call) for call in calls]
                wait_until(
                    lambda: len(store.log._groups), "waiting calls", lambda n: n == len(calls)
                )
            return [f.exception() or f.result() for f in futures]

    return run


def sizes(store, kind):
    with store.database.reading() as transaction:
        query = select(batches.c.size).where(batches.c.kind == kind).order_by(batches.c.id)
        return transaction.execute(query).scalars().all()


def test_group_commit_takes_calls_of_every_kind_in_one_transaction(store, sender, at_once):
    record = sender.start(await_activation=True)
    known = [*sender.choose(record, 6, at=1.0)]
    store.log.activate(known[3:], at=1.0)
    chosen = [sender.chosen(1 + k % 2, arms=np.full(1 + k % 2, k % 3)) for k in range(8)]
    clicks = [sender.told([Event(i, "e", "click", 1.0, 2.0)]) for i in known[3:]]
    commits = []
    event.listen(store.database.writer, "commit", lambda _connection: commits.append(1))
    calls = [lambda c=c: store.log.append_decisions(record, c, at=2.0) for c in chosen]
    calls += [lambda i=i: store.log.activate([i], at=2.0) for i in known[:3]]
    calls += [lambda e=e: store.log.append_events(e, at=2.0) for e in clicks]
    calls += [lambda i=i: store.log.cancel([i], at=2.0) for i in known[4:]]
    results = at_once(calls)
    assert len(commits) == 1
    assert results == [{}] * 8 + [MarkResult(1, 0, ())] * 3 + [[]] * 3 + [MarkResult(1, 0, ())] * 2
    assert (sizes(store, "choose"), sizes(store, "reward")) == ([6, 12], [3])
    stored = store.log.decisions([i for c in chosen for i in c.ids])
    assert [stored[i].arm for c in chosen for i in c.ids] == [a for c in chosen for a in c.arms]


def test_refused_call_of_a_group_fails_alone(store, sender, at_once):
    record = sender.start()
    sender.choose(record, ids=["x"], digests=[b"one body"])
    chosen = [sender.chosen(digests=[b"body"]) for _ in range(5)]
    chosen[2] = sender.chosen(ids=["x"], digests=[b"another body"])
    results = at_once([lambda c=c: store.log.append_decisions(record, c, at=2.0) for c in chosen])
    assert isinstance(results.pop(2), IdReused)
    assert results == [{}] * 4
    assert len(store.log.decisions([c.ids[0] for c in chosen])) == 5


def test_repeats_in_a_group_are_answered_as_alone(store, sender, at_once):
    record = sender.start()
    first = sender.chosen(digests=[b"body"])
    store.log.append_decisions(record, first, at=1.0)
    new = sender.chosen(digests=[b"body"])
    results = at_once(
        [lambda c=c: store.log.append_decisions(record, c, at=2.0) for c in (first, new, new)]
    )
    assert results[0][0].id == first.ids[0]
    assert sorted(len(r) for r in results[1:]) == [0, 1]
    clicks = [
        sender.told([Event(i, "e", "click", 1.0, 2.0)]) for i in (*first.ids, *new.ids, *new.ids)
    ]
    results = at_once([lambda e=e: store.log.append_events(e, at=2.0) for e in clicks])
    assert sorted(results) == [[], [], [0]]
    marked = at_once(
        [lambda i=i: store.log.cancel([i], at=3.0) for i in (*new.ids, *new.ids, "none")]
    )
    assert sorted(m.accepted for m in marked) == [0, 0, 1]
    assert marked[2] == MarkResult(0, 0, ("none",))


def test_a_subject_asked_for_by_a_whole_group_has_one_decision(store, sender, at_once):
    record = sender.start(assignment="per_subject")
    chosen = [sender.chosen(subjects=["ann"]) for _ in range(6)]
    results = at_once([lambda c=c: store.log.append_decisions(record, c, at=2.0) for c in chosen])
    made = store.log.decisions([c.ids[0] for c in chosen])
    assert len(made) == 1
    answers = {r[0].id if r else c.ids[0] for r, c in zip(results, chosen, strict=True)}
    assert answers == set(made)


def test_failed_group_commit_is_told_to_every_call(store, sender, at_once):
    record = sender.start()
    sender.choose(record)  # what follows only writes: a reading ends with a commit, too
    chosen = [sender.chosen() for _ in range(6)]

    def fail(_connection):
        raise Unavailable("the disk is full")

    event.listen(store.database.writer, "commit", fail)
    results = at_once([lambda c=c: store.log.append_decisions(record, c, at=2.0) for c in chosen])
    event.remove(store.database.writer, "commit", fail)
    assert [(type(r), str(r)) for r in results] == [(Unavailable, "the disk is full")] * 6
    assert len({id(r) for r in results}) == 6  # each its own, with its own traceback
    assert store.log.decisions([c.ids[0] for c in chosen]) == {}
    assert store.log.append_decisions(record, chosen[0], at=3.0) == {}  # the queue goes on


def test_decisions_of_a_group_commit_are_learned_once(store, sender, at_once):
    record = sender.start()

    def send(wave):
        chosen = [sender.chosen() for _ in range(10)]
        at_once([lambda c=c: store.log.append_decisions(record, c, at=wave) for c in chosen])
        ids = [c.ids[0] for c in chosen]
        clicks = [sender.told([Event(i, "e", "click", 1.0, wave)]) for i in ids]
        at_once([lambda e=e: store.log.append_events(e, at=wave) for e in clicks])
        at_once([lambda i=i: store.log.cancel([i], at=wave) for i in ids[:3]])
        fold(store, "spring", now=wave)

    for wave in range(3):
        send(wave)
    while fold(store, "spring", now=1e6):
        pass
    with store.snapshots.audit("spring") as audit:
        sums = rebuild(audit)
    statistic, tally = sums.statistic, sums.counts
    assert statistic.count.sum() == statistic.total.sum() == tally.sent.sum() == 21


def test_a_choice_under_a_record_that_no_longer_holds_is_refused(store, sender):
    record = sender.start()
    store.experiments.move("spring", "paused", allowed=["running"], at=1.0, by="test")
    for n in (1, 300):
        with pytest.raises(StaleRead):
            store.log.append_decisions(record, sender.chosen(n), at=2.0)
    assert sizes(store, "choose") == []


def test_experiment_paused_by_another_server_chooses_no_more(store, sender, database_url):
    sender.start()
    engine = Engine(store)
    engine.choose("spring", [Request("ann")])
    other = open_store(database_url)
    other.experiments.move("spring", "paused", allowed=["running"], at=1.0, by="test")
    with pytest.raises(WrongState):
        engine.choose("spring", [Request("bob")])
    other.experiments.move("spring", "running", allowed=["paused"], at=2.0, by="test")
    engine.choose("spring", [Request("bob")])
    other.close()


def test_snapshot_of_another_server_is_used_from_the_second_choice_on(store, sender, database_url):
    record = sender.start()
    engine = Engine(store)
    sender.choose(record, 3, at=1.0)
    engine.choose("spring", [Request("ann")])
    other = open_store(database_url)
    assert fold(other, "spring", now=1e12)
    versions = [engine.choose("spring", [Request("bob")])[0].policy_version for _ in range(3)]
    assert versions[1:] == [1, 1]
    other.close()
