"""Signals become events of decisions, each once and each for itself, in every database."""

from datetime import UTC, datetime
from threading import Event as Flag
from threading import Thread

import pytest

from bandits.actors import actor_of
from bandits.engine import record_rewards
from bandits.engine.record_signals import REUSED
from bandits.errors import InvalidInput, Unavailable
from bandits.schemas import Request, Reward
from bandits.store.values import Deeds, Event
from storage.connections import DeliveryOutcome, NewUnmatchedEvent, connections
from storage.connections import unmatched_events as connection_rows
from storage.snapshots.verify import compare
from tests.patience import join, wait_until
from webapp.signals.delivery import Delivery
from webapp.signals.signal_event import SignalBatch, SignalEvent, UnreadableEvent
from webapp.webhooks.match_worker import MatchWorker
from webapp.webhooks.signal_recorder import SignalRecorder

CONNECTION = actor_of("connection", "mailer")
NOW = 1_800_000_000.0
HOUR = 3600.0
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture
def shop(store, engine, sender):
    """A running campaign, one that waits for activations, and a connection."""
    rule = {"metrics": {"click": {}, "buy": {"count": "sum", "high": 100.0}}}
    rule |= {"window_seconds": 100 * HOUR, "maturity_seconds": HOUR}
    sender.start("spring", reward=rule)
    sender.start("waits", reward=rule, await_activation=True, machine_rules=1)
    return Shop(store, engine)


class Shop:
    """A connection, and the campaigns that it reports to."""

    def __init__(self, store, engine) -> None:
        self.store, self.engine = store, engine
        self.connection = store.connections.add(
            "sendgrid", "mailer", {}, fields={}, metrics={"order": "buy"}, at=NOW, by="test"
        )
        self.recorder = SignalRecorder(engine)

    def choose(self, decision_id: str, key: str = "spring") -> str:
        self.engine.choose(key, [Request(f"subject of {decision_id}", decision_id=decision_id)])
        return decision_id

    def deliver(self, *events: SignalEvent, unreadable=()) -> DeliveryOutcome:
        """Record a delivery as the receiver does."""
        batch = SignalBatch(events, tuple(unreadable))
        at = self.engine.clock()
        return self.recorder.deliver(self.store.connections, self.connection, batch, at=at)

    def match(self) -> int:
        return MatchWorker(self.engine, self.store.connections, Flag()).look()

    def events(self, decision_id: str):
        """Read the events of a decision, by the ids that the sender gave them."""
        events = self.store.log.events(decision_id)
        return {e.event_id.removeprefix(f"{CONNECTION}:"): e for e in events}

    @property
    def state(self):
        return self.store.connections.find("mailer")


def event(decision_id: str | None, event_id: str = "e-1", **more) -> SignalEvent:
    ids = () if decision_id is None else (decision_id,)
    parts = {"name": "click", "decision_ids": ids, "occurred_at": at(NOW)} | more
    return SignalEvent(event_id=event_id, **parts)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_event_is_counted_once_however_often_it_comes(shop):
    made = shop.choose("d-1")
    first = shop.deliver(event(made), event(made, "e-2"), event(made))
    again = shop.deliver(event(made, "e-2"), event(made))
    assert (first.recorded, first.repeated) == (2, 1)
    assert (again.recorded, again.repeated) == (0, 2)
    assert set(shop.events(made)) == {"e-1", "e-2"}


def test_events_come_in_any_order_and_count_at_their_own_times(shop, now):
    made = shop.choose("d-1")
    now[0] += 3 * HOUR
    late, early = event(made, "e-2", occurred_at=at(NOW + 2 * HOUR)), event(made)
    assert shop.deliver(late, early).recorded == 2
    times = {i: e.occurred_at for i, e in shop.events(made).items()}
    assert times == {"e-1": NOW, "e-2": NOW + 2 * HOUR}


def test_event_without_a_time_counts_as_of_now(shop, now):
    made = shop.choose("d-1")
    now[0] += HOUR
    assert shop.deliver(event(made, occurred_at=None)).recorded == 1
    assert shop.events(made)["e-1"].occurred_at == NOW + HOUR


def test_event_after_its_window_is_late(shop, now):
    made = shop.choose("d-1")
    now[0] += 200 * HOUR
    outcome = shop.deliver(event(made, occurred_at=at(now[0])))
    assert (outcome.recorded, outcome.late) == (0, 1)


def test_event_name_feeds_the_metric_that_the_connection_says(shop):
    made = shop.choose("d-1")
    assert shop.deliver(event(made, name="order", value=9.5)).recorded == 1
    stored = shop.events(made)["e-1"]
    assert (stored.metric, stored.value) == ("buy", 9.5)


def test_event_of_several_decisions_is_recorded_for_each(shop):
    made = [shop.choose("d-1"), shop.choose("d-2", "waits")]
    outcome = shop.deliver(event(None, decision_ids=tuple(made)))
    assert (outcome.recorded, len(outcome.unmatched)) == (1, 1)


def test_bad_events_are_listed_and_the_rest_is_recorded(shop):
    made = shop.choose("d-1")
    unread = UnreadableEvent(7, "no time", Delivery("POST", {}, b'[{"event": 1}]'))
    outcome = shop.deliver(
        event(made),
        event(made, "e-2", name="clikc"),
        event(made, "e-3", name="order", value=1e9),
        event(made, "e-4", value=float("nan")),
        event("no id of ours: ä"),
        event(None, "e-5"),
        event(made, "e-6", name="open"),
        event(made, "e-7", occurred_at=at(NOW - 25 * HOUR)),
        unreadable=[unread],
    )
    assert (outcome.recorded, outcome.without_decision, len(outcome.refused)) == (2, 1, 6)
    reasons = [r.reason for r in shop.store.connections.refusals("mailer", limit=10)]
    assert sorted(r.partition(";")[0].partition(" [")[0] for r in reasons) == [
        "campaign spring: must lie in",
        "campaign spring: unknown metric 'clikc'",
        "ids of decisions and events must be 1 to 128 printable ASCII characters without spaces",
        "it happened more than a day before its email was chosen or activated",
        "no time",
        "the value must be a finite number",
    ]


def test_event_id_with_another_value_is_refused_alone(shop):
    made = [shop.choose(f"d-{i}") for i in range(9)]
    shop.deliver(*(event(i) for i in made))
    changed = [event(i, name="order", value=2.0) if i in made[3:5] else event(i) for i in made]
    outcome = shop.deliver(*changed, *(event(i, "e-2") for i in made))
    assert (outcome.recorded, outcome.repeated) == (9, 7)
    assert [r.reason for r in outcome.refused] == [REUSED] * 2


def bounce(event_id: str, decision_id: str, bounced: str | None = "address", **more) -> SignalEvent:
    content = {"decision_ids": (decision_id,) if decision_id else (), "bounce": bounced} | more
    return SignalEvent(name="bounce", event_id=event_id, **content)


@pytest.fixture
def excluding(shop):
    """The same, where the connection takes out what bounces for its address."""
    shop.connection = shop.store.connections.configure(
        "mailer", fields={}, metrics={}, at=NOW, by="test", excludes_bounces=True
    )
    return shop


def cancelled(shop, *ids: str) -> list[bool]:
    stored = shop.store.log.decisions(ids)
    return [stored[i].cancelled_at is not None for i in ids]


def test_bounce_stays_in_the_denominator_unless_the_connection_excludes_it(shop, now):
    made = shop.choose("d-1")
    shop.deliver(bounce("e-1", made))
    assert cancelled(shop, made) == [False]
    now[0] += HOUR
    shop.engine.learn("spring")
    assert sum(arm.sent for arm in shop.engine.results("spring").arms) == 1
    assert shop.engine.results("spring").health.excluded_bounces == 0


def test_bounce_of_an_address_takes_its_decision_out_where_the_connection_says_so(excluding, now):
    shop = excluding
    made = [shop.choose(f"d-{i}") for i in range(4)]
    shop.deliver(bounce("e-0", "d-0"), bounce("e-1", "d-1", "content"), bounce("e-2", "d-2", None))
    shop.deliver(bounce("e-0", "d-0"))  # again
    assert cancelled(shop, *made) == [True, False, False, False]
    now[0] += HOUR
    shop.engine.learn("spring")
    results = shop.engine.results("spring")
    assert sum(arm.sent for arm in results.arms) == 3
    assert results.health.excluded_bounces == 1
    with shop.store.snapshots.audit("spring") as audit:
        reports = compare(audit, lambda _: None)
    assert [d for report in reports for d in report.differences()] == []


def test_bounces_of_all_new_emails_are_told_though_nothing_new_is_learned(excluding, now):
    """Before: somebody who had read the results was told of none until the next version."""
    shop = excluding
    shop.choose("d-0")
    now[0] += HOUR
    shop.engine.learn("spring")
    assert shop.engine.results("spring").health.excluded_bounces == 0
    made = [shop.choose(f"d-{i}") for i in (1, 2)]
    shop.deliver(*(bounce(f"e-{i}", i) for i in made))
    now[0] += HOUR
    assert shop.engine.learn("spring") is None
    assert shop.engine.results("spring").health.excluded_bounces == 2
    assert shop.engine.results("spring") is shop.engine.results("spring")


def test_bounce_after_the_time_to_send_stays(excluding, now):
    made = excluding.choose("d-1")
    now[0] += 25 * HOUR
    assert excluding.deliver(bounce("e-1", made)).recorded == 1
    assert cancelled(excluding, made) == [False]


def test_bounce_that_waits_takes_its_decision_out_once_that_is_known(excluding, now):
    shop = excluding
    shop.deliver(bounce("e-1", "d-1"), bounce("e-2", "d-2", "content"))
    made = [shop.choose("d-1"), shop.choose("d-2")]
    assert shop.match() == 2
    assert cancelled(shop, *made) == [True, False]


def test_bounce_that_is_refused_or_not_counted_yet_takes_nothing_out(excluding, now):
    shop = excluding
    made = [shop.choose("d-1"), shop.choose("d-2", "waits")]
    outcome = shop.deliver(bounce("e-1", "d-1", value=2.0), bounce("e-2", "d-2"))
    assert (len(outcome.refused), len(outcome.unmatched)) == (1, 1)
    assert cancelled(shop, *made) == [False, False]
    now[0] += 60.0
    shop.engine.activate(["d-2"])
    assert shop.match() == 1
    assert cancelled(shop, *made) == [False, True]


def test_bounce_by_the_id_of_the_email_or_the_subject_takes_its_decision_out(
    store, engine, sender, excluding, now
):
    sender.start("shop", attribution="last", await_activation=True)
    made = [excluding.choose(i, "shop") for i in ("d-1", "d-2", "d-3")]
    engine.activate(made, messages=[("d-1", "m-1")])
    now[0] += 60.0
    at = datetime.fromtimestamp(now[0], UTC)
    excluding.deliver(
        bounce("e-1", "", message_id="m-1"),
        bounce("e-2", "", subject_id="subject of d-2", occurred_at=at),
    )
    assert cancelled(excluding, *made) == [True, True, False]


def test_bounces_that_a_connection_takes_out_raise_no_alarm_on_the_key_that_chose(excluding, now):
    """Delivered at first, then bounced: the key that asked for these emails cancelled nothing."""
    shop, key = excluding, actor_of("key", 1)
    ids = [f"d-{i}" for i in range(60)]
    requests = [Request(f"subject of {i}", decision_id=i) for i in ids]
    shop.engine.choose("spring", requests, actor=key)
    delivered = [
        SignalEvent(name="delivered", event_id=f"of {i}".replace(" ", "-"), decision_ids=(i,))
        for i in ids
    ]
    shop.deliver(*delivered)
    shop.deliver(*(bounce(f"b-{i}", i) for i in ids[:30]))
    now[0] += HOUR
    shop.engine.learn("spring")
    health = shop.engine.results("spring").health
    assert [alarm.check for alarm in health.senders] == []
    assert health.excluded_bounces == 30
    shop.engine.cancel(ids[30:], actor=key)
    shop.engine.learn("spring")
    assert [a.check for a in shop.engine.results("spring").health.senders] == ["cancelled"]
    shop.engine.void(Deeds(CONNECTION, NOW, now[0]), by="test")
    assert cancelled(shop, "d-0") == [False]
    assert shop.engine.results("spring").health.excluded_bounces == 0


def test_event_waits_for_its_decision_and_is_counted_when_that_comes(shop, now):
    endless = event("d-1", "e-3", value=float("inf"))
    outcome = shop.deliver(event("d-1"), event("d-1", "e-2"), event("d-2"), endless)
    assert (outcome.recorded, len(outcome.unmatched)) == (0, 3)
    shop.deliver(event("d-1"))
    assert shop.state.unmatched == 3
    assert shop.match() == 0
    now[0] += HOUR
    made = shop.choose("d-1")
    assert shop.match() == 2
    assert {e.occurred_at for e in shop.events(made).values()} == {now[0]}  # not before it
    assert (shop.state.unmatched, shop.state.counts.recorded) == (1, 2)
    now[0] += 23.5 * HOUR
    assert shop.match() == 0
    assert (shop.state.unmatched, shop.state.counts.expired) == (0, 1)


def test_event_waits_for_the_activation_of_its_decision(shop, now):
    made = shop.choose("d-1", "waits")
    shop.deliver(event(made))
    assert shop.match() == 0
    now[0] += HOUR
    shop.engine.activate([made])
    assert shop.match() == 1
    assert shop.events(made)["e-1"].occurred_at == NOW + HOUR
    assert shop.deliver(event(made)).repeated == 1


def test_event_that_arrives_after_a_late_activation_counts_as_of_it(shop, now):
    made = shop.choose("d-1", "waits")
    now[0] += HOUR
    shop.engine.activate([made])
    assert shop.deliver(event(made)).recorded == 1
    assert shop.events(made)["e-1"].occurred_at == NOW + HOUR


def followed(decision_id, number, happened_at, **more):
    """A click as mailers report it, with the request behind it."""
    request = {
        "link": f"https://shop.example/{number}",
        "agent": CHROME,
        "recipient": "a@gmail.com",
    }
    request |= {"network_address": "198.51.100.7", "occurred_at": at(happened_at)}
    return event(decision_id, f"e-{number}", **(request | more))


def aside(shop, now, key="waits"):
    now[0] += 121.0
    shop.engine.learn(key)
    return {row.reason: row.total for row in shop.engine.set_aside(key).reasons}


@pytest.mark.parametrize("early", [True, False])
def test_clicks_before_a_late_activation_are_judged_by_their_own_times(shop, now, early):
    made = shop.choose("d-1", "waits")
    clicks = [followed(made, i, NOW + 600 + 60 * i) for i in range(3)]  # by and by, as people do
    now[0] += HOUR
    if early:
        shop.deliver(*clicks)
        assert shop.match() == 0
    shop.engine.activate([made])
    if early:
        assert shop.match() == 3
    else:
        assert shop.deliver(*clicks).recorded == 3
    assert {e.occurred_at for e in shop.events(made).values()} == {NOW + HOUR}
    delivered = event(made, "d", name="delivered", occurred_at=at(NOW + 5))
    shop.deliver(delivered)
    assert aside(shop, now) == {}
    (judged,) = shop.engine.set_aside("waits").mailboxes
    assert (judged.name, judged.persons) == ("google", 3)


def test_scan_before_an_activation_is_set_aside(shop, now):
    made = shop.choose("d-1", "waits")
    shop.deliver(*(followed(made, i, NOW + 600) for i in range(6)))
    now[0] += HOUR
    shop.engine.activate([made])
    assert shop.match() == 6
    assert aside(shop, now) == {"sweep": 6}


def test_machine_open_of_a_sender_is_set_aside_as_flagged(shop, now):
    made = shop.choose("d-1", "waits")
    shop.engine.activate([made])
    now[0] += 600.0
    flagged = event(made, name="machine_open", machine=True, occurred_at=at(now[0]))
    assert shop.deliver(flagged).recorded == 1
    assert aside(shop, now) == {"flagged": 1}


def test_waiting_event_that_does_not_fit_its_decision_is_listed(shop):
    shop.deliver(event("d-1", name="clikc"))
    shop.choose("d-1")
    assert shop.match() == 1
    (kept,) = shop.store.connections.refusals("mailer", limit=10)
    assert "clikc" in kept.reason
    assert shop.state.counts.refused == 1


def test_matching_that_broke_off_counts_once(shop, monkeypatch):
    shop.deliver(event("d-1"))
    made = shop.choose("d-1")
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(connection_rows, "remove_unmatched", fail)
        with pytest.raises(KeyboardInterrupt):
            shop.match()
    assert (set(shop.events(made)), shop.state.unmatched) == (set(), 1)  # all of it or nothing
    assert shop.match() == 1
    assert set(shop.events(made)) == {"e-1"}
    assert (shop.state.unmatched, shop.state.counts.recorded) == (0, 1)


def test_delivery_that_cannot_be_counted_stores_none_of_its_events(shop, monkeypatch):
    made = shop.choose("d-1")
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise Unavailable("away")

        patch.setattr(connection_rows, "insert_unmatched", fail)
        with pytest.raises(Unavailable):
            shop.deliver(event(made), event("d-2"), event(made, "e-3", name="clikc"))
    assert shop.events(made) == {}
    assert (shop.state.counts.deliveries, shop.state.unmatched, shop.state.counts.refused) == (
        0,
    ) * 3
    outcome = shop.deliver(event(made), event("d-2"), event(made, "e-3", name="clikc"))
    assert (outcome.recorded, len(outcome.unmatched), len(outcome.refused)) == (1, 1, 1)
    assert (shop.state.counts.deliveries, shop.state.unmatched, shop.state.counts.refused) == (
        1,
    ) * 3


def test_delivery_without_events_is_one_transaction_and_counts(shop):
    assert shop.deliver() == DeliveryOutcome(unmatched=[], refused=[])
    assert shop.state.counts.deliveries == 1


def test_replayed_event_counts_once_it_fits(shop):
    made = shop.choose("d-1")
    shop.deliver(event(made, name="purchase"))
    (kept,) = shop.store.connections.refusals("mailer", limit=10)
    body = shop.store.connections.refusal_body("mailer", kept.id)

    def replay():
        connection = shop.store.connections.find("mailer")
        return shop.recorder.replay(connection, body, lambda _: SignalBatch())

    assert "purchase" in replay().refused[0].reason
    metrics = {"purchase": "buy"}
    shop.store.connections.configure("mailer", fields={}, metrics=metrics, at=NOW, by="test")
    assert [replay().recorded, replay().repeated] == [1, 1]
    assert shop.events(made)["e-1"].metric == "buy"


def test_replayed_delivery_is_read_by_its_kind(shop):
    made = shop.choose("d-1")
    delivery = Delivery("POST", {"a": "b"}, b"raw bytes \xff")
    unread = UnreadableEvent(0, "no time", delivery)
    refused = shop.deliver(unreadable=[unread]).refused[0]
    read = []

    def parse(given: Delivery) -> SignalBatch:
        read.append(given)
        return SignalBatch((event(made),))

    assert shop.recorder.replay(shop.connection, refused.body, parse).recorded == 1
    assert read == [delivery]


def test_event_finds_its_decision_by_the_id_of_the_email(shop):
    made = [shop.choose("d-1"), shop.choose("d-2", "waits"), shop.choose("d-3")]
    emails = [(made[0], "mail-1"), (made[1], "mail-1"), (made[2], "mail-2")]
    assert shop.engine.activate(made, messages=emails).accepted == 1
    assert shop.engine.activate(made, messages=emails).repeated == 3
    of_email = event(None, message_id="mail-1")
    outcome = shop.deliver(of_email, event(None, "e-2"), event("d-3", "e-3", message_id="mail-1"))
    assert (outcome.recorded, outcome.without_decision) == (3, 1)
    assert [set(shop.events(i)) for i in made] == [{"e-1"}, {"e-1"}, {"e-3"}]
    assert shop.deliver(of_email).repeated == 2


def test_event_waits_for_the_id_of_its_email(shop, now):
    early = event(None, message_id="mail-1")
    assert shop.deliver(early).without_decision == 1  # nobody tells such ids here
    made = [shop.choose("d-1", "waits"), shop.choose("d-2")]
    shop.engine.activate(made[1:], messages=[(made[1], "mail-2")])
    outcome = shop.deliver(early, event(None, "e-2", message_id="mail-2"))
    assert (outcome.recorded, len(outcome.unmatched)) == (1, 1)
    shop.deliver(early)
    assert shop.state.unmatched == 1
    assert shop.match() == 0
    now[0] += HOUR
    shop.engine.activate(made[:1], messages=[(made[0], "mail-1")])
    assert shop.match() == 1
    assert shop.events(made[0])["e-1"].occurred_at == now[0]
    assert (shop.match(), shop.state.unmatched) == (0, 0)
    shop.deliver(event(None, "e-3", message_id="mail-3"))
    now[0] += 25 * HOUR
    shop.match()
    assert (shop.state.unmatched, shop.state.counts.expired) == (0, 1)


def test_emails_of_nobody_leave_room_for_those_that_are_ours(shop, monkeypatch):
    monkeypatch.setattr(connections, "MOST_UNMATCHED", 1)
    shop.engine.activate([shop.choose("d-0")], messages=[("d-0", "mail-0")])
    shop.deliver(*(event(None, f"e-{i}", message_id=f"mail-{i}") for i in range(1, 4)))
    assert shop.state.counts.refused == 0
    assert (shop.state.unmatched, shop.state.counts.without_decision) == (1, 2)


def test_event_of_a_void_email_is_credited_anew_when_its_delivery_comes_again(shop, sender, now):
    rule = {"metrics": {"buy": {"count": "sum", "high": 50.0}}, "window_seconds": 100 * HOUR}
    sender.start("found", reward=rule, attribution="last")
    shop.engine.choose("found", [Request("ann", decision_id="own")])
    shop.engine.choose("found", [Request("ann", decision_id="stolen")], actor="key:9")
    now[0] += HOUR
    order = event(None, "o-1", name="order", value=9.5, subject_id="ann", occurred_at=at(now[0]))
    assert shop.deliver(order).recorded == 1
    shop.engine.void(Deeds("key:9", 0.0, now[0]), by="anna")
    assert shop.deliver(order).recorded == 1
    assert shop.deliver(order).repeated == 1
    assert [e.value for e in shop.events("own").values()] == [9.5]


def test_event_finds_its_decision_by_subject_and_time(shop, sender, now):
    rule = {"metrics": {"buy": {"count": "sum", "low": -50.0, "high": 50.0}}}
    sender.start("found", reward=rule | {"window_seconds": 100 * HOUR}, attribution="last")
    for subject in ("ann", "Bob@Shop.example"):
        shop.engine.choose("found", [Request(subject, decision_id=f"of-{subject}")])
    now[0] += HOUR
    order = {"name": "order", "occurred_at": at(NOW + 60.0)}
    outcome = shop.deliver(
        event(None, "o-1", value=9.5, subject_id="ann", **order),
        event(None, "o-2", value=4.0, recipient="bob@shop.example", **order),
        event(None, "o-3", subject_id="nobody", **order),
        event(None, "o-4", subject_id="ann", **(order | {"occurred_at": None})),
        event(None, "o-5", subject_id="ann", **(order | {"name": "odrer"})),
        event(None, "o-6", value=-4.0, subject_id="ann", original_event_id="o-1", **order),
    )
    assert (outcome.recorded, outcome.without_decision, len(outcome.refused)) == (3, 1, 2)
    assert {i: e.value for i, e in shop.events("of-ann").items()} == {"o-1": 9.5, "o-6": -4.0}
    assert set(shop.events("of-Bob@Shop.example")) == {"o-2"}
    again = shop.deliver(event(None, "o-1", value=9.5, subject_id="ann", **order))
    assert (again.recorded, again.repeated) == (0, 1)
    reasons = " ".join(r.reason for r in outcome.refused)
    assert "needs its time" in reasons
    assert "odrer" in reasons


def test_more_events_than_a_call_of_the_api_may_have_are_one_batch(shop, monkeypatch):
    monkeypatch.setattr(record_rewards, "MAX_BATCH", 4)
    made = [shop.choose(f"d-{i}") for i in range(10)]
    assert shop.deliver(*(event(i) for i in made)).recorded == 10
    with shop.store.database.reading() as transaction:
        query = "SELECT size FROM batches WHERE kind = 'reward'"
        assert transaction.connection.exec_driver_sql(query).scalars().all() == [10]


def test_rows_are_written_in_the_name_of_the_connection(shop):
    made = shop.choose("d-1")
    shop.deliver(event(made))
    with shop.store.database.reading() as transaction:
        query = "SELECT actor FROM batches WHERE kind = 'reward'"
        actors = transaction.connection.exec_driver_sql(query).scalars().all()
    assert actors == ["connection:mailer"]


def test_worker_matches_until_it_is_stopped(shop):
    stop = Flag()
    worker = MatchWorker(shop.engine, shop.store.connections, stop)
    shop.deliver(event("d-1"))
    shop.choose("d-1")
    thread = Thread(target=worker.run)
    thread.start()
    try:
        wait_until(lambda: not shop.state.unmatched, "match")
    finally:
        stop.set()
        join(thread)
    assert shop.state.counts.recorded == 1


@pytest.mark.parametrize("forged", ["e-1", "connection:shop:e-1", "connection:mailer:e-1"])
def test_event_that_a_key_reports_first_keeps_no_event_of_a_sender_out(shop, forged):
    """Before: a key that guessed the id had the sender's own event refused, or take no effect."""
    made = shop.choose("d-1")
    reward = Reward(made, forged, "buy", 90.0)
    if forged == "e-1":
        assert shop.engine.reward([reward], actor=actor_of("key", 9)).accepted == 1
    else:
        with pytest.raises(InvalidInput) as refused:
            shop.engine.reward([reward], actor=actor_of("key", 9))
        assert [f.pointer for f in refused.value.faults] == ["/rewards/0/event_id"]
        assert "must not begin with `connection:`" in str(refused.value)
        partial = shop.engine.reward([reward], actor=actor_of("key", 9), partial=True)
        assert [row.reason for row in partial.refused] == ["invalid"]
    outcome = shop.deliver(event(made, name="order", value=5.0))
    assert (outcome.recorded, outcome.repeated, list(outcome.refused)) == (1, 0, [])
    assert "connection:mailer:e-1" in {e.event_id for e in shop.store.log.events(made)}


def test_connections_of_one_kind_have_events_of_the_same_ids(shop):
    """Before: the second shop's `order-1` was refused as the first one's, or was that one."""
    second = shop.store.connections.add(
        "sendgrid", "shop", {}, fields={}, metrics={"order": "buy"}, at=NOW, by="test"
    )
    made, later = shop.choose("d-1"), "d-2"
    for connection, value in ((shop.connection, 5.0), (second, 7.0)):
        orders = [event(i, name="order", value=value) for i in (made, later)]
        outcome = shop.recorder.record(connection, SignalBatch(tuple(orders)))
        assert (outcome.recorded, len(outcome.unmatched), list(outcome.refused)) == (1, 1, [])
        shop.store.connections.record_delivery(connection.id, outcome, at=NOW)
    shop.choose(later)
    assert shop.match() == 2
    for decision in (made, later):
        assert sorted(e.value for e in shop.store.log.events(decision)) == [5.0, 7.0]


def test_event_from_before_connections_had_ids_of_their_own_counts_once(shop, sender):
    """It was stored by the id that the sender gave it, and comes again in a later version."""
    made = shop.choose("d-1")
    stored = sender.told([Event(made, "e-1", "click", 1.0, NOW)])
    assert shop.store.log.append_events(stored, actor=CONNECTION, at=NOW) == []
    again = shop.deliver(event(made), event(made, "e-2"))
    assert (again.recorded, again.repeated) == (1, 1)
    changed = shop.deliver(event(made, name="order", value=5.0))
    assert [refusal.reason for refusal in changed.refused] == [REUSED]
    assert set(shop.events(made)) == {"e-1", "e-2"}


def test_event_that_waited_before_connections_had_ids_of_their_own_counts_once(shop):
    waiting = NewUnmatchedEvent("d-1", "e-1", "click", 1.0, NOW, "", b"")
    outcome = DeliveryOutcome(unmatched=[waiting])
    shop.store.connections.record_delivery(shop.connection.id, outcome, at=NOW)
    shop.deliver(event("d-1"))
    shop.choose("d-1")
    shop.match()
    assert (shop.state.counts.recorded, shop.state.counts.repeated) == (1, 1)
    assert set(shop.events("d-1")) == {"e-1"}
