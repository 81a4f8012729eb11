"""Every batch of the log is of one actor, who is noted, however many are committed together."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select, update

from bandits.actors import PROGRAM, Actor, actor_of, split_actor
from bandits.engine import Engine
from bandits.schemas import Request, Reward
from bandits.store.values import Event
from storage.schema import batches
from tests.patience import LIMIT_SECONDS, wait_until

KEY, OTHER = actor_of("key", 1), actor_of("key", 12)
PERSON = actor_of("person", "anna@shop.example")
CONNECTION = actor_of("connection", "mailer-eu")


def written(store, kind) -> list[tuple[Actor, int]]:
    """List who wrote batches of a kind, and how many rows each has."""
    query = select(batches.c.actor, batches.c.size).where(batches.c.kind == kind)
    with store.database.reading() as transaction:
        return sorted(tuple(row) for row in transaction.execute(query))


def test_actor_text_has_its_kind_and_name() -> None:
    assert [KEY, PERSON] == ["key:1", "person:anna@shop.example"]
    assert split_actor(actor_of("connection", "a:b")) == ("connection", "a:b")
    assert split_actor(PROGRAM)[0] == "program"


def test_actor_is_noted_of_decisions_rewards_and_marks(store, sender, now) -> None:
    sender.start(await_activation=True)
    engine = Engine(store, lambda: now[0])
    requests = [Request(f"u-{i}", decision_id=f"d-{i}") for i in range(300)]
    engine.choose("spring", requests[:1], actor=KEY)
    engine.choose("spring", requests[1:4], actor=PERSON)
    engine.choose("spring", requests[4:], actor=OTHER)  # more than the fast append takes
    assert engine.choose("spring", requests[:1], actor=OTHER)[0].repeat
    engine.activate(["d-0", "d-1"], actor=KEY)
    engine.cancel(["d-3"], actor=PROGRAM)
    rewards = [Reward(i, f"{CONNECTION}:e", "click") for i in ("d-0", "d-1", "d-2")]
    receipt = engine.reward(rewards, actor=CONNECTION)
    assert (receipt.accepted, receipt.early) == (2, ["d-2"])
    assert written(store, "choose") == [(KEY, 1), (OTHER, 296), (PERSON, 3)]
    assert written(store, "activate") == [(KEY, 2)]
    assert written(store, "cancel") == [(PROGRAM, 1)]
    assert written(store, "reward") == [(CONNECTION, 0), (CONNECTION, 2)]  # the early one
    stored = store.log.decisions(["d-0", "d-1", "d-299"])
    assert [d.actor for d in stored.values()] == [KEY, PERSON, OTHER]


def test_actor_of_rows_from_before_is_unknown(store, sender) -> None:
    (decision_id,) = sender.choose(sender.start())
    with store.database.writing() as transaction:
        transaction.execute(update(batches).values(actor=None))
    assert store.log.decisions([decision_id])[decision_id].actor is None
    assert store.log.cancel([decision_id], actor=KEY, at=1.0).accepted == 1


@pytest.mark.parametrize("other", [KEY, OTHER])
def test_group_commit_writes_a_batch_for_each_actor(store, sender, held, other) -> None:
    record = sender.start(await_activation=True)
    known = [*sender.choose(record, 8, at=1.0)]
    store.log.activate(known[4:], at=1.0)
    clicks = [sender.told([Event(i, "e", "click", 1.0, 2.0)]) for i in known[4:]]
    commits: list[int] = []
    event.listen(store.database.writer, "commit", lambda _connection: commits.append(1))
    actors = [KEY, other, KEY, other]
    calls = [
        lambda a=a: store.log.append_decisions(record, sender.chosen(), actor=a, at=2.0)
        for a in actors
    ]
    for actor, waiting, sent, events in zip(actors, known[:4], known[4:], clicks, strict=True):
        calls += [
            lambda e=events, a=actor: store.log.append_events(e, actor=a, at=2.0),
            lambda i=waiting, a=actor: store.log.activate([i], actor=a, at=2.0),
            lambda i=sent, a=actor: store.log.cancel([i], actor=a, at=2.0),
        ]
    with ThreadPoolExecutor(len(calls)) as pool:
        with held():
            futures = [pool.submit(call) for call in calls]
            wait_until(lambda: len(store.log._groups), "waiting calls", lambda n: n == len(calls))
        assert [f.exception() for f in futures] == [None] * len(calls)
    assert len(commits) == 1
    expected = [(KEY, 4)] if other == KEY else [(KEY, 2), (other, 2)]
    assert written(store, "choose") == [*expected, (PROGRAM, 8)]
    assert written(store, "reward") == written(store, "cancel") == expected
    assert written(store, "activate") == [*expected, (PROGRAM, 4)]


def test_actors_that_choose_at_once_write_batches_of_their_own(store, sender, paused) -> None:
    sender.start()
    engine = Engine(store)
    with ThreadPoolExecutor(12) as pool:
        with paused("append_decisions") as entered:
            first = pool.submit(engine.choose, "spring", [Request("first")], actor=KEY)
            assert entered.wait(LIMIT_SECONDS)
            waiting = [
                pool.submit(engine.choose, "spring", [Request(f"u-{i}")], actor=KEY)
                for i in range(5)
            ]
            queue = engine._choose_handler._queues["spring", KEY]
            wait_until(lambda: len(queue), "waiting requests", lambda n: n == 5)
            # Another key's request does not wait for this one's.
            engine.choose("spring", [Request("other")], actor=OTHER)
        assert {f.exception() for f in (first, *waiting)} == {None}
    assert written(store, "choose") == [(KEY, 1), (KEY, 5), (OTHER, 1)]
