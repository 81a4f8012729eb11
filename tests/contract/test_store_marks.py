"""Marks: only who chose may activate and cancel, and cancel only within the time to send."""

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from bandits.actors import actor_of
from bandits.engine import Engine
from storage.schema import batches

KEY, OTHER = actor_of("key", 1), actor_of("key", 12)
LIMIT = 3600.0


@pytest.fixture
def chosen(store, sender):
    """Decisions of two keys each, of the sender's own experiment."""

    def choose(n=2, **declared):
        record = sender.start(send_within_seconds=LIMIT, **declared)
        ids = []
        for actor in (KEY, OTHER):
            made = sender.chosen(n)
            store.log.append_decisions(record, made, actor=actor, at=0.0)
            ids.append([*made.ids])
        return ids

    return choose


def refused(marks):
    return [(r.row, r.id, r.reason) for r in marks.refused]


@pytest.mark.parametrize("mark", ["activate", "cancel"])
def test_mark_of_what_another_key_chose_is_refused_by_itself(store, chosen, mark) -> None:
    own, others = chosen(await_activation=True)
    call = getattr(store.log, mark)
    ids = [others[0], own[0], "nobody's", others[1]]
    marks = call(ids, actor=KEY, own_only=True, at=1.0)
    assert refused(marks) == [(0, others[0], "another_key"), (3, others[1], "another_key")]
    assert (marks.accepted, marks.repeated, marks.unknown) == (1, 0, ("nobody's",))
    stored = store.log.decisions([*own, *others])
    marked = [d.cancelled_at or d.started_at for d in stored.values()]
    assert [at for at in marked if at is not None] == [1.0]
    again = call(ids, actor=KEY, own_only=True, at=2.0)
    assert refused(again) == refused(marks)
    assert (again.accepted, again.repeated) == (0, 1)
    assert call(others, actor=KEY, at=2.0).accepted == 2  # as one with the scope manage may


def test_mark_of_rows_without_actor_is_anybodys(store, chosen) -> None:
    own, others = chosen()
    with store.database.writing() as transaction:
        transaction.execute(update(batches).values(actor=None))
    marks = store.log.cancel([*own, *others], actor=actor_of("key", 99), own_only=True, at=1.0)
    assert marks.accepted == 4


def test_cancellation_after_the_time_to_send_is_refused(store, chosen) -> None:
    own, _ = chosen(n=3)
    assert store.log.cancel(own[:1], actor=KEY, own_only=True, at=LIMIT).accepted == 1
    marks = store.log.cancel(own, actor=KEY, own_only=True, at=LIMIT + 1)
    assert refused(marks) == [(1, own[1], "too_late"), (2, own[2], "too_late")]
    assert "3,600 seconds" in marks.refused[0].detail
    assert (marks.accepted, marks.repeated) == (0, 1)  # the first was cancelled in time
    assert store.log.cancel(own, at=LIMIT + 1).accepted == 0  # not even a manager may


def test_time_to_send_begins_with_the_activation(store, chosen) -> None:
    own, _ = chosen(n=3, await_activation=True)
    late = 10 * LIMIT
    assert store.log.cancel(own[:1], actor=KEY, own_only=True, at=late).accepted == 1
    assert store.log.activate(own[1:], actor=KEY, own_only=True, at=late).accepted == 2
    assert store.log.cancel(own[1:2], actor=KEY, own_only=True, at=late + LIMIT).accepted == 1
    marks = store.log.cancel(own[2:], actor=KEY, own_only=True, at=late + LIMIT + 1)
    assert refused(marks) == [(0, own[2], "too_late")]


def test_cancellation_refused_leaves_what_is_learned_and_the_subject(store, sender, now) -> None:
    record = sender.start(send_within_seconds=LIMIT, assignment="per_subject")
    made = sender.chosen(2, subjects=["ann", "bob"])
    store.log.append_decisions(record, made, actor=KEY, at=0.0)
    engine = Engine(store, lambda: now[0])
    now[0] = 20.0
    engine.learn("spring")
    ids = [*made.ids]
    marks = engine.cancel([ids[0], ids[1], ids[0]], actor=OTHER, own_only=True)
    assert [(r.row, r.id) for r in marks.refused] == [(0, ids[0]), (1, ids[1])]
    assert engine.learn("spring") is None
    again = store.log.append_decisions(record, sender.chosen(1, subjects=["ann"]), at=21.0)
    assert [d.id for d in again.values()] == ids[:1]


def test_time_to_send_may_change_while_the_experiment_runs(store, chosen, now) -> None:
    own, _ = chosen()
    engine = Engine(store, lambda: now[0])
    now[0] = LIMIT + 1
    assert len(engine.cancel(own, actor=KEY, own_only=True).refused) == 2
    record = store.experiments.record("spring")
    edited = replace(record.configuration.experiment, send_within_seconds=2 * LIMIT)
    engine.edit("spring", edited, version=record.configuration.version, by="test")
    assert engine.cancel(own, actor=KEY, own_only=True).accepted == 2
