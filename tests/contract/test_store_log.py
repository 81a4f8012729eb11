"""What every store does with decisions, events, activations and cancellations."""

from hashlib import blake2b

import numpy as np
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from bandits.errors import IdReused, NotFound
from bandits.store import StaleRead
from bandits.store.values import Event, Events, MarkResult
from storage.schema import batches, decisions, secrets


def test_a_decision_reads_back_as_it_was_chosen(store, sender):
    record = sender.start(context=[{"kind": "number", "name": "age", "low": 0, "high": 100}])
    chosen = sender.chosen(
        2,
        ids=["x", "y"],
        digests=[b"", b"digest"],
        arms=np.array([2, 1]),
        propensities=np.array([0.123456789012345, 1.0]),
        contexts=np.array([[1.0, 0.1], [1.0, 0.7]]),
        holdout=np.array([False, True]),
        fallback=np.array([True, False]),
        eligible_sets=[b'{"subject":["a"]}', b""],
        policy_version=17,
        mended=(1, 2, 3),
    )
    assert store.log.append_decisions(record, chosen, at=5.25) == {}
    stored = store.log.decisions(["y", "x", "z"])
    assert set(stored) == {"x", "y"}
    x, y = stored["x"], stored["y"]
    assert (x.id, x.experiment, x.configuration_version, x.policy_version) == ("x", "spring", 1, 17)
    assert (x.arm, y.arm) == (2, 1)
    assert (x.propensity, y.propensity) == (0.123456789012345, 1.0)
    assert (x.context.tolist(), y.context.tolist()) == ([1.0, 0.1], [1.0, 0.7])
    assert (x.holdout, y.holdout, x.fallback, y.fallback) == (False, True, True, False)
    assert (x.eligible_set, y.eligible_set) == (b'{"subject":["a"]}', b"")
    assert (x.digest, y.digest) == (b"", b"digest")
    assert (x.made_at, x.started_at, x.cancelled_at) == (5.25, 5.25, None)


def test_newest_decisions_come_newest_first_and_of_one_experiment(store, sender):
    record, other = sender.start(), sender.start(key="other")
    for at, ids in ((1.0, ["a", "b", "c"]), (2.0, ["d"]), (3.0, ["e", "f"])):
        store.log.append_decisions(record, sender.chosen(len(ids), ids=ids), at=at)
        store.log.append_decisions(other, sender.chosen(1, ids=[f"other-{at}"]), at=at)

    def latest(limit):
        return [stored.id for stored in store.log.latest_decisions("spring", limit=limit)]

    assert latest(10) == ["f", "e", "d", "c", "b", "a"]
    assert latest(4) == ["f", "e", "d", "c"]
    assert latest(1) == ["f"]
    with pytest.raises(NotFound):
        store.log.latest_decisions("none", limit=1)


def test_context_without_features_is_the_constant(store, sender):
    record = sender.start()
    (decision,) = sender.choose(record)
    assert store.log.decisions([decision])[decision].context.tolist() == [1.0]


def test_ids_may_hold_any_printable_character(store, sender):
    record = sender.start()
    ids = ['"', "\\", '\\"', "{a,b}", "a,b", "'", "NULL", "%s", "$1", ":x", "?", '","']
    store.log.append_decisions(record, sender.chosen(len(ids), ids=ids), at=1.0)
    assert set(store.log.decisions([*ids, "a", "b", ""])) == set(ids)
    assert 0 not in store.log.targets(ids).numbers
    assert store.log.targets(["a", ids[0], "a"]).numbers[::2] == [0, 0]
    assert store.log.cancel(ids, at=2.0) == MarkResult(len(ids), 0, ())


def test_empty_call_reads_and_writes_nothing(store, sender):
    record = sender.start()
    assert store.log.decisions([]) == {}
    assert store.log.append_decisions(record, sender.chosen(0), at=1.0) == {}
    assert store.log.append_events(Events([], [], [], [], [], [], [], []), at=1.0) == []
    assert store.log.activate([], at=1.0) == MarkResult(0, 0, ())
    assert store.log.cancel([], at=1.0) == MarkResult(0, 0, ())
    with store.snapshots.fold("spring", now=1.0) as folding:
        assert folding.due is None


@pytest.mark.parametrize("n", [1, 50, 21_000])
def test_groups_of_every_size_are_appended_whole(store, sender, n):
    record = sender.start()
    chosen = sender.chosen(n, arms=np.arange(n) % 3)
    assert store.log.append_decisions(record, chosen, at=1.0) == {}
    stored = store.log.decisions(chosen.ids)
    assert [stored[i].arm for i in chosen.ids] == chosen.arms.tolist()
    assert sender.append([Event(i, "e", "click", 1.0, 2.0) for i in chosen.ids], at=2.0) == (
        n,
        0,
        0,
    )
    assert store.log.cancel(chosen.ids, at=3.0) == MarkResult(n, 0, ())


@pytest.mark.parametrize("n", [2, 100])
def test_a_repeated_id_gives_the_earlier_decision(store, sender, n):
    record = sender.start()
    first = sender.chosen(n, digests=[b"same"] * n)
    store.log.append_decisions(record, first, at=1.0)
    fresh = sender.chosen(n, digests=[b"same"] * n)
    ids = [*first.ids[: n // 2], *fresh.ids[n // 2 :]]
    again = replace(fresh, ids=ids, arms=(first.arms + 1) % 3)
    earlier = store.log.append_decisions(record, again, at=2.0)
    assert sorted(earlier) == list(range(n // 2))
    for row, stored in earlier.items():
        assert (stored.id, stored.made_at, stored.arm) == (first.ids[row], 1.0, first.arms[row])
    assert len(store.log.decisions([*first.ids, *fresh.ids])) == n + n // 2
    assert sorted(store.log.append_decisions(record, again, at=3.0)) == list(range(n))


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_an_id_with_another_body_is_refused_and_nothing_appended(store, sender, assignment):
    record = sender.start(assignment=assignment)
    sender.choose(record, ids=["x"], digests=[b"one body"])
    chosen = sender.chosen(2, ids=["new", "x"], digests=[b"new body", b"another body"])
    with pytest.raises(IdReused, match="'x'"):
        store.log.append_decisions(record, chosen, at=2.0)
    assert set(store.log.decisions(["new", "x"])) == {"x"}
    with store.snapshots.fold("spring", now=2.0) as folding:
        assert len(folding.due.entered) == 1


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_an_id_of_another_experiment_is_refused(store, sender, assignment):
    sender.choose(sender.start("autumn"), ids=["x"], digests=[b"same"])
    record = sender.start(assignment=assignment)
    with pytest.raises(IdReused, match="'x'"):
        store.log.append_decisions(record, sender.chosen(1, ids=["x"], digests=[b"same"]), at=2.0)


def test_subject_may_have_many_decisions_unless_declared(store, sender):
    record = sender.start()
    sender.choose(record, 3, subjects=["ann", "ann", "ann"])
    sender.choose(record, subjects=["ann"])


class TestPerSubject:
    @pytest.fixture
    def record(self, sender):
        return sender.start(assignment="per_subject")

    def test_later_decisions_of_a_subject_give_the_first(self, store, sender, record):
        (first,) = sender.choose(record, subjects=["ann"], arms=np.array([2]))
        again = sender.chosen(3, subjects=["bob", "ann", "ann"], arms=np.array([0, 1, 1]))
        earlier = store.log.append_decisions(record, again, at=2.0)
        assert {row: (s.id, s.arm) for row, s in earlier.items()} == {1: (first, 2), 2: (first, 2)}
        assert set(store.log.decisions(again.ids)) == {again.ids[0]}

    def test_first_row_of_a_subject_decides_in_one_group(self, store, sender, record):
        chosen = sender.chosen(3, ids=["z", "a", "m"], subjects=["ann"] * 3)
        earlier = store.log.append_decisions(record, chosen, at=1.0)
        assert {row: s.id for row, s in earlier.items()} == {1: "z", 2: "z"}

    def test_subjects_of_other_experiments_are_others(self, sender, record):
        sender.choose(record, subjects=["ann"])
        sender.choose(sender.start("autumn", assignment="per_subject"), subjects=["ann"])

    def test_cancel_frees_the_subject(self, store, sender, record):
        (first,) = sender.choose(record, subjects=["ann"])
        store.log.cancel([first], at=2.0)
        (second,) = sender.choose(record, subjects=["ann"], at=3.0)
        store.log.cancel([first], at=4.0)  # again, and the second stays
        earlier = store.log.append_decisions(record, sender.chosen(1, subjects=["ann"]), at=5.0)
        assert earlier[0].id == second

    def test_fallback_does_not_claim_its_subject(self, store, sender, record):
        sender.choose(record, subjects=["ann"], fallback=np.array([True]))
        (second,) = sender.choose(record, subjects=["ann"])
        fallback = sender.chosen(1, subjects=["ann"], fallback=np.array([True]))
        assert store.log.append_decisions(record, fallback, at=3.0)[0].id == second

    def test_a_repeated_id_gives_its_own_decision_though_cancelled(self, store, sender, record):
        body = {"ids": ["x"], "digests": [b"body"], "subjects": ["ann"]}
        sender.choose(record, **body)
        store.log.cancel(["x"], at=2.0)
        repeated = store.log.append_decisions(record, sender.chosen(1, **body), at=3.0)
        assert (repeated[0].id, repeated[0].cancelled_at) == ("x", 2.0)
        (second,) = sender.choose(record, subjects=["ann"])  # the repeat did not claim her again
        repeated = store.log.append_decisions(record, sender.chosen(1, **body), at=5.0)
        assert repeated[0].id == "x"
        assert store.log.append_decisions(record, sender.chosen(1, subjects=["ann"]), at=6.0)[
            0
        ].id == (second)

    def test_large_groups_are_assigned_once(self, store, sender, record):
        subjects = [f"subject {i}" for i in range(12_000)]
        first = sender.choose(record, len(subjects), subjects=subjects)
        again = sender.chosen(len(subjects), subjects=subjects[::-1])
        earlier = store.log.append_decisions(record, again, at=2.0)
        assert [earlier[row].id for row in range(len(subjects))] == list(first)[::-1]


def test_subjects_are_stored_hashed_under_a_secret_of_this_database(store, sender):
    sender.choose(sender.start(), subjects=["ann@shop.example"])
    with store.database.reading() as transaction:
        subject = transaction.execute(select(decisions.c.subject)).scalar()
        secret = transaction.execute(select(secrets.c.value)).scalar()
    assert len(secret) == 32
    assert subject == blake2b(b"ann@shop.example", digest_size=16, key=secret).digest()


def test_events_read_back_in_order_of_their_time(store, sender):
    (decision,) = sender.choose(sender.start())
    events = [
        Event(decision, "b", "order", 12.5, 30.0),
        Event(decision, "a", "click", 1.0, 20.0),
        Event(decision, "c", "click", 1.0, 2000.0, late=True),
    ]
    assert sender.append(events, at=2000.0) == (2, 0, 1)
    assert store.log.events(decision) == sorted(events, key=lambda e: e.occurred_at)
    assert store.log.events("none") == []


@pytest.mark.parametrize("n", [2, 100])
def test_an_event_that_comes_twice_counts_once(store, sender, n):
    ids = sender.choose(sender.start(), n)
    events = [Event(i, "e", "click", 1.0, 5.0) for i in ids]
    assert sender.append([*events, *events[:1]], at=5.0) == (n, 1, 0)
    retried = [replace(e, occurred_at=6.0, late=True) for e in events]
    fresh = [replace(e, event_id="f") for e in events]
    assert sender.append([*retried, *fresh], at=6.0) == (n, n, 0)
    assert [e.occurred_at for e in store.log.events(ids[0])] == [5.0, 5.0]


@pytest.mark.parametrize("change", [{"metric": "order"}, {"value": 0.5}])
@pytest.mark.parametrize("within_one_call", [True, False])
def test_an_event_id_with_another_body_is_refused_and_nothing_appended(
    store, sender, change, within_one_call
):
    ids = sender.choose(sender.start(), 2)
    event = Event(ids[0], "e", "click", 1.0, 5.0)
    events = [Event(ids[1], "e", "click", 1.0, 5.0), replace(event, **change)]
    if within_one_call:
        events.append(event)
    else:
        sender.append([event], at=5.0)
    with pytest.raises(IdReused, match="event 'e'"):
        sender.append(events, at=6.0)
    assert store.log.events(ids[1]) == []


def test_event_id_of_two_decisions_is_two_events(store, sender):
    ids = sender.choose(sender.start(), 2)
    assert sender.click(ids, at=5.0) == (2, 0, 0)


def test_events_of_several_experiments_come_in_one_call(store, sender):
    one = sender.choose(sender.start("one"), 3)
    two = sender.choose(sender.start("two"), 2)
    assert sender.click([*one, *two], at=5.0) == (5, 0, 0)


def test_events_of_a_decision_erased_meanwhile_are_refused_whole(store, sender):
    ids = sender.choose(sender.start(), 3)
    events = sender.told([Event(i, "e", "click", 1.0, 5.0) for i in ids])
    with store.subjects.erase("spring", ids[1:2], now=6.0, by="test"):
        pass
    with pytest.raises(StaleRead):
        store.log.append_events(events, at=7.0)
    assert store.log.events(ids[0]) == []


def test_targets_come_in_the_order_they_were_asked_in(store, sender):
    running = sender.start("runs")
    waiting = sender.start("waits", await_activation=True)
    ids = [*sender.choose(running, 2, at=1.0), *sender.choose(waiting, 2, at=2.0)]
    stopped = store.experiments.move(
        "runs", "stopped", allowed=["running"], at=2.5, by="test", shipped=0
    )
    ids += sender.choose(stopped, 1, at=3.0, shipped=True)
    store.log.activate(ids[2:3], at=4.0)
    asked = ["none", *ids, ids[3], "none", ids[0]]
    found = store.log.targets(asked)
    told = [t and (t.experiment, t.started_at, t.shipped) for t in found.refs]
    assert told == [
        None,
        *[("runs", 1.0, False)] * 2,
        ("waits", 4.0, False),
        ("waits", None, False),
        ("runs", 3.0, True),
        ("waits", None, False),
        None,
        ("runs", 1.0, False),
    ]
    assert [n == 0 for n in found.numbers] == [t is None for t in told]
    assert found.numbers[1] == found.numbers[-1] < found.numbers[2] < found.numbers[3]


def test_events_of_several_experiments_are_counted_in_each(store, sender):
    spring, autumn = sender.start("spring"), sender.start("autumn")
    mine, theirs = sender.choose(spring, 2), sender.choose(autumn, 2)
    clicks = [Event(i, "e", "click", 1.0, 5.0) for i in (theirs[0], mine[0], theirs[1], mine[1])]
    clicks += [clicks[1], replace(clicks[0], event_id="f", late=True)]
    assert sender.append(clicks, at=5.0) == (4, 1, 1)
    with store.database.reading() as transaction:
        columns = (batches.c.experiment_id, batches.c.size, batches.c.repeated, batches.c.late)
        query = select(*columns).where(batches.c.kind == "reward").order_by(batches.c.id)
        assert transaction.execute(query).all() == [(spring.id, 2, 1, 0), (autumn.id, 3, 0, 1)]
    assert [e.event_id for e in store.log.events(theirs[0])] == ["e", "f"]


def test_a_decision_that_awaits_its_activation_has_no_start(store, sender):
    ids = sender.choose(sender.start(await_activation=True), 3, at=1.0)
    assert {d.started_at for d in store.log.decisions(ids).values()} == {None}
    assert store.log.activate([ids[0], "none"], at=5.0) == MarkResult(1, 0, ("none",))
    assert store.log.activate(ids, at=6.0) == MarkResult(2, 1, ())
    assert [store.log.decisions(ids)[i].started_at for i in ids] == [5.0, 6.0, 6.0]
    assert {d.made_at for d in store.log.decisions(ids).values()} == {1.0}


def test_activate_takes_only_decisions_that_await_it(store, sender):
    running = sender.choose(sender.start("runs"), 2)
    waiting = sender.choose(sender.start("waits", await_activation=True), 2)
    store.log.cancel(waiting[:1], at=4.0)
    assert store.log.activate([*running, *waiting], at=5.0) == MarkResult(1, 3, ())
    assert store.log.decisions(waiting)[waiting[0]].started_at is None
    assert store.log.decisions(running)[running[0]].started_at == 0.0


def test_a_decision_is_cancelled_once(store, sender):
    ids = sender.choose(sender.start(), 2)
    assert store.log.cancel([ids[0], "none"], at=5.0) == MarkResult(1, 0, ("none",))
    assert store.log.cancel(ids, at=6.0) == MarkResult(1, 1, ())
    assert [store.log.decisions(ids)[i].cancelled_at for i in ids] == [5.0, 6.0]


def test_ids_given_twice_are_counted_twice_and_marked_once(store, sender):
    ids = sender.choose(sender.start(await_activation=True))
    assert store.log.activate([*ids, *ids, "none", "none"], at=5.0) == MarkResult(1, 1, ("none",))
    assert store.log.cancel([*ids, *ids], at=6.0) == MarkResult(1, 1, ())


@pytest.mark.parametrize("name", ["ünïcode 😀", "quote ' and \" and ; --", "%s ? :x $1", "x" * 500])
def test_ids_and_subjects_may_be_any_text(store, sender, name):
    record = sender.start(assignment="per_subject")
    sender.choose(record, ids=[name], subjects=[name], digests=[b"body"])
    assert sender.click([name], at=5.0, event_id=name) == (1, 0, 0)
    assert list(store.log.decisions([name])) == [name]
    assert [e.event_id for e in store.log.events(name)] == [name]
    assert store.log.cancel([name], at=6.0) == MarkResult(1, 0, ())


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_candidates_are_found_without_an_index(store, sender, assignment):
    record = sender.start(assignment=assignment)
    other = sender.start(key="other", assignment=assignment)
    append = store.log.append_decisions
    append(record, sender.chosen(2, ids=["a1", "b1"], subjects=["ann", "bob"]), at=1.0)
    append(record, sender.chosen(1, ids=["a2"], subjects=["ann"]), at=2.0)
    append(other, sender.chosen(1, ids=["a3"], subjects=["ann"]), at=3.0)
    append(record, sender.chosen(1, ids=["b2"], subjects=["BOB"]), at=4.0)
    found = store.log.candidates([record], ["bob", "ann", "nobody", "Ann", "BOB", "boB"])
    of_ann = [("a1", 1.0), ("a2", 2.0)] if assignment == "per_decision" else [("a1", 1.0)]
    assert [[(c.decision_id, c.started_at) for c in of_one] for of_one in found] == [
        [("b1", 1.0)],
        of_ann,
        [],
        of_ann,
        [("b2", 4.0)],
        [("b1", 1.0)],  # other spellings than the plain one are not known of
    ]
    assert store.log.candidates([record], []) == []
