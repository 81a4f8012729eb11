"""Rewards that wait for each other are recorded together, and answered as if alone."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from sqlalchemy import event, select

from bandits.actors import PROGRAM
from bandits.errors import IdReused, InvalidInput, Unavailable
from bandits.schemas import Reward, RewardReceipt
from storage.schema import batches
from tests.patience import LIMIT_SECONDS, wait_until

START = 1_800_000_000.0


@pytest.fixture
def now():
    return [START]


@pytest.fixture
def at_once(engine, paused):
    """A function that has calls wait while another is committed, and then go on all at once."""

    def run(calls, before):
        with ThreadPoolExecutor(len(calls) + 1) as pool:
            with paused("append_events") as entered:
                first = pool.submit(engine.reward, before)
                assert entered.wait(LIMIT_SECONDS)
                futures = [pool.submit(engine.reward, call) for call in calls]
                queue = engine._reward_handler._queues[PROGRAM, False]
                wait_until(lambda: len(queue), "waiting calls", lambda n: n == len(calls))
            assert first.result().accepted == len(before)
            return [f.exception() or f.result() for f in futures]

    return run


def click(decision_id, event_id="e", **given):
    return Reward(decision_id, event_id, **{"metric": "click"} | given)


def told(seconds):
    return datetime.fromtimestamp(START + seconds, UTC)


def logged(store):
    with store.database.reading() as transaction:
        columns = (batches.c.size, batches.c.repeated, batches.c.late, batches.c.skewed)
        query = select(*columns).where(batches.c.kind == "reward").order_by(batches.c.id)
        return [tuple(row) for row in transaction.execute(query)]


def test_reward_group_gives_each_call_the_receipt_it_gets_alone(
    store, engine, sender, at_once, now
):
    ids = sender.choose(sender.start(), 6, at=START)
    (waiting,) = sender.choose(sender.start("waits", await_activation=True), 1, at=START)
    now[0] = START + 2000.0  # a thousand seconds after the window
    calls = [
        [click(ids[1], occurred_at=told(5))],
        [click(ids[2], occurred_at=told(5)), click("none"), click(ids[3])],
        [],
        [click(waiting), click(ids[0], occurred_at=told(5)), click(ids[4], occurred_at=told(5))],
        [
            *[click(ids[1], "f", occurred_at=told(9000))] * 2,
            click(ids[5], occurred_at=told(-9000)),
        ],
        [click(ids[4], occurred_at=told(5)), click(ids[3], metric="order", event_id="o")],
    ]
    answers = at_once(calls, [click(ids[0], occurred_at=told(5))])
    one, other = answers[3], answers[5]
    assert answers[:3] == [
        RewardReceipt(1, 0, 0, [], []),
        RewardReceipt(1, 0, 1, ["none"], []),
        RewardReceipt(0, 0, 0, [], []),
    ]
    assert answers[4] == RewardReceipt(0, 1, 1, [], [ids[5]], 2)
    # which of the two that told the same came first is the queue's
    assert (one.unknown, one.early) == ([], [waiting])
    assert one.repeated + other.repeated == 2
    assert one.accepted + other.accepted == 1
    assert (one.late, other.late) == (0, 1)
    assert logged(store)[:2] == [(1, 0, 0, 0), (6, 3, 3, 1)]


@pytest.mark.parametrize(
    "wrong", [{"metric": "opne"}, {"value": 7.0}, {"event_id": "known", "value": 0.5}]
)
def test_refused_rewards_hinder_no_other_call(store, engine, sender, at_once, wrong):
    ids = sender.choose(sender.start(), 5, at=START)
    engine.reward([click(ids[1], "known")])
    refused = [click(ids[0]), replace(click(ids[1]), **wrong)]
    calls = [[click(ids[2])], refused, [click(ids[3])]]
    answers = at_once(calls, [click(ids[4])])
    assert [a.accepted for a in answers[::2]] == [1, 1]
    assert isinstance(answers[1], IdReused if "event_id" in wrong else InvalidInput)
    if isinstance(answers[1], InvalidInput):
        assert answers[1].faults[0].pointer.startswith("/rewards/1/")
    assert store.log.events(ids[0]) == []
    assert [size for size, *_ in logged(store)] == [1] * 4


def test_failed_commit_is_told_to_every_reward_call(store, engine, sender, paused):
    ids = sender.choose(sender.start(), 4, at=START)

    def fail(_connection):
        raise Unavailable("the disk is full")

    with ThreadPoolExecutor(4) as pool:
        with paused("append_events") as entered:
            futures = [pool.submit(engine.reward, [click(ids[0])])]
            assert entered.wait(LIMIT_SECONDS)
            futures += [pool.submit(engine.reward, [click(i)]) for i in ids[1:]]
            queue = engine._reward_handler._queues[PROGRAM, False]
            wait_until(lambda: len(queue), "waiting calls", lambda n: n == 3)
            event.listen(store.database.writer, "commit", fail)
        errors = [f.exception() for f in futures]
    event.remove(store.database.writer, "commit", fail)
    assert [str(e) for e in errors] == ["the disk is full"] * 4
    assert len({id(e) for e in errors}) == 4
    assert logged(store) == []
    assert engine.reward([click(i) for i in ids]).accepted == 4
