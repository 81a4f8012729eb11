"""Events before their decision's clock wait, and count once, in every database."""

from datetime import UTC, datetime
from threading import Event as Flag

import pytest

from bandits.actors import actor_of
from bandits.errors import IdReused
from bandits.schemas import Request, Reward
from storage.log import waiting_events
from webapp.webhooks.match_worker import MatchWorker

KEY, OTHER = actor_of("key", 1), actor_of("key", 2)
HOUR = 3600.0


@pytest.fixture
def now() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
def shop(store, engine, sender):
    """A campaign that waits for activations, and one that does not."""
    rule = {"metrics": {"click": {}}, "window_seconds": 100 * HOUR}
    sender.start("waits", reward=rule, await_activation=True)
    sender.start("spring", reward=rule)
    return Shop(store, engine)


class Shop:
    """Those campaigns, and a key that reports to them."""

    def __init__(self, store, engine) -> None:
        self.store, self.engine = store, engine

    def choose(self, decision_id: str, key: str = "waits") -> str:
        self.engine.choose(key, [Request(f"of {decision_id}", decision_id=decision_id)])
        return decision_id

    def report(self, *rewards: Reward, actor=KEY, **options):
        return self.engine.reward(rewards, actor=actor, wait=True, **options)

    def match(self) -> int:
        return MatchWorker(self.engine, self.store.connections, Flag()).look()

    def stored(self, decision_id: str) -> list[tuple[str, float, float]]:
        events = self.store.log.events(decision_id)
        return [(event.event_id, event.value, event.occurred_at) for event in events]


def click(decision_id: str, event_id: str = "e-1", **more) -> Reward:
    return Reward(decision_id, event_id, "click", **more)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_event_before_its_activation_waits_and_counts_as_of_it(shop, now):
    made = shop.choose("d-1")
    receipt = shop.report(click(made, occurred_at=at(now[0])))
    assert (receipt.accepted, receipt.early, receipt.waiting) == (0, [made], 1)
    assert shop.match() == 0
    now[0] += HOUR
    shop.engine.activate([made])
    assert shop.match() == 1
    assert shop.stored(made) == [("e-1", 1.0, now[0])]
    assert shop.match() == 0
    shop.engine.learn("waits")
    assert shop.engine.results("waits").health.early == 0


def test_event_before_its_decision_waits_and_counts(shop, now):
    receipt = shop.report(click("d-1", value=0.5), click("d-2"))
    assert (receipt.unknown, receipt.waiting) == (["d-1", "d-2"], 2)
    now[0] += 60.0
    shop.choose("d-1", "spring")
    assert shop.match() == 1
    assert shop.stored("d-1") == [("e-1", 0.5, now[0] - 60.0)]


def test_event_that_waits_counts_once_however_often_it_comes(shop):
    made = shop.choose("d-1")
    for _ in range(2):
        assert shop.report(click(made), click(made)).waiting == 2
    shop.engine.activate([made])
    assert shop.report(click(made)).accepted == 1
    assert shop.match() == 1
    assert shop.report(click(made)).repeated == 1
    assert len(shop.stored(made)) == 1


def test_event_that_waits_keeps_its_id(shop):
    made, running = shop.choose("d-1"), shop.choose("d-2", "spring")
    shop.report(click(made))
    changed = [click(running), click(made, value=0.5)]
    with pytest.raises(IdReused) as caught:
        shop.report(*changed)
    assert list(caught.value.rows) == [1]
    assert shop.stored(running) == []  # nothing of the call was recorded
    receipt = shop.report(*changed, partial=True)
    assert (receipt.accepted, [row.row for row in receipt.refused]) == (1, [1])


def test_event_of_a_decision_that_is_cancelled_unsent_is_counted_and_waits_no_more(shop):
    first, second = shop.choose("d-1"), shop.choose("d-2")
    shop.report(click(first))
    shop.engine.cancel([first, second])
    receipt = shop.report(click(second))
    assert (receipt.cancelled, receipt.waiting, receipt.early) == (1, 0, [])
    assert shop.match() == 1
    assert shop.store.log.ready_events(limit=10) == []
    shop.engine.learn("waits")
    assert shop.engine.results("waits").health.cancelled == 2


def test_event_after_a_cancellation_is_counted_as_such_and_one_before_is_not(shop, now):
    made = shop.choose("d-1", "spring")
    assert shop.report(click(made, "before")).accepted == 1
    now[0] += 1.0
    shop.engine.cancel([made])
    now[0] += 1.0
    assert shop.report(click(made, "after"), click(made, "again")).accepted == 2
    shop.engine.learn("spring")
    assert shop.engine.results("spring").health.cancelled == 2
    shop.engine.learn("spring")
    assert shop.engine.results("spring").health.cancelled == 2


def test_event_waits_a_day_and_no_longer(shop, now):
    shop.report(click("d-1"))
    now[0] += 25 * HOUR
    shop.match()
    shop.choose("d-1")
    shop.engine.activate(["d-1"])
    assert shop.match() == 0
    assert shop.stored("d-1") == []


def test_room_for_waiting_events_is_of_each_actor(shop, monkeypatch):
    monkeypatch.setattr(waiting_events, "MOST_WAITING", 2)
    made = shop.choose("d-1")
    receipt = shop.report(*(click(made, f"e-{i}") for i in range(3)))
    assert (len(receipt.early), receipt.waiting) == (3, 2)
    assert shop.report(click(made, "o-1"), actor=OTHER).waiting == 1
    shop.engine.activate([made])
    assert shop.match() == 3
    shop.engine.learn("waits")
    assert shop.engine.results("waits").health.early == 1


def test_event_that_waited_and_does_not_fit_is_dropped_and_told(shop, caplog):
    shop.report(Reward("d-1", "e-1", "clikc"), click("d-1", "e-2"))
    shop.choose("d-1", "spring")
    assert shop.match() == 2
    assert [event_id for event_id, *_ in shop.stored("d-1")] == ["e-2"]
    assert "clikc" in caplog.text


def test_settling_that_breaks_off_counts_once(shop, monkeypatch):
    made = shop.choose("d-1")
    shop.report(click(made))
    shop.engine.activate([made])
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(waiting_events, "remove_waiting", fail)
        with pytest.raises(KeyboardInterrupt):
            shop.match()
    assert shop.stored(made) == []
    assert shop.match() == 1
    assert len(shop.stored(made)) == 1


def test_event_of_an_engine_without_a_worker_is_not_kept(shop):
    assert shop.engine.reward([click("d-1")]).waiting == 0
    shop.choose("d-1", "spring")
    assert shop.match() == 0


def test_try_says_what_would_wait(shop):
    made = shop.choose("d-1")
    receipt = shop.engine.try_rewards([click(made), click("d-2")], actor=KEY, wait=True)
    assert (receipt.early, receipt.unknown, receipt.waiting) == ([made], ["d-2"], 2)
    shop.engine.activate([made])
    assert shop.match() == 0
