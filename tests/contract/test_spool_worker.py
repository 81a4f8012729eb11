"""Spool worker: what was answered is counted once, in every database, also after it was away."""

from contextlib import closing
from threading import Event

import pytest

from bandits.engine import Engine
from bandits.errors import Unavailable
from bandits.machines.rules import VerdictReason
from bandits.machines.tracked_events import EventSign
from bandits.schemas import Request
from bandits.tracking_tokens import TokenKind, TrackingKey, TrackingToken
from storage import open_store
from storage.spool import SpoolRecord
from tests.webhook_senders import Mailer, sendgrid_event
from webapp.links.tracked_hit import tracked_hit
from webapp.signals.delivery import Delivery
from webapp.spool_worker import MOST_EVENTS_AN_HOUR, WAIT_SECONDS, SpoolWorker
from webapp.webhooks.connection_setup import add_connection
from webapp.webhooks.spooled_delivery import spool_record

START = 1_800_000_000.0
HOUR = 3600.0
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ADDRESS = "https://shop.example/"


class Links:
    """A campaign whose emails have tracked links, and the worker that records their events."""

    def __init__(self, database_url: str, folder, now: list[float]) -> None:
        self.store = open_store(database_url, spool_folder=folder)
        self.now = now
        self.engine = Engine(self.store, lambda: self.now[0])
        self.stop = Event()
        self.worker = SpoolWorker(self.engine, self.store, self.stop)
        new = self.store.tracked_links.create("test", at=now[0], by="test")
        self.key = TrackingKey.parse(new.text)

    def choose(self, *ids: str, experiment: str = "spring") -> None:
        self.engine.choose(experiment, [Request(f"subject of {i}", decision_id=i) for i in ids])

    def hit(self, *ids: str, kind: TokenKind = TokenKind.CLICK, head: bool = False, **more) -> None:
        """Write a hit to the spool, as a web worker does."""
        address = ADDRESS if kind in {TokenKind.CLICK, TokenKind.HONEYPOT} else ""
        token = TrackingToken(kind, ids, address)
        parts = {"agent": "Mozilla/5.0", "network_address": "192.0.2.1"} | more
        hit = tracked_hit(self.key.id, token, head=head, **parts)
        self.store.spool.append(hit.record(self.now[0]))

    def events(self, decision_id: str) -> list[str]:
        return sorted(event.metric for event in self.store.log.events(decision_id))

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the key that are not 0."""
        (key,) = self.store.tracked_links.all()
        names = key.counts.__struct_fields__
        return {n: getattr(key.counts, n) for n in names if getattr(key.counts, n)}


@pytest.fixture
def links(database_url, tmp_path, sender):
    now = [START]
    made = Links(database_url, tmp_path / "spool", now)
    sender.start("spring", reward={"metrics": {"click": {}}, "window_seconds": 10 * HOUR})
    with closing(made.store):
        yield made


def test_hits_of_each_kind_are_events_of_their_decisions(links):
    links.choose("d-1", "d-2")
    links.hit("d-1")
    links.hit("d-1", kind=TokenKind.OPEN)
    links.hit("d-1", "d-2", kind=TokenKind.UNSUBSCRIBE)
    assert links.worker.look() == 3
    assert links.events("d-1") == ["click", "open", "unsubscribe"]
    assert links.events("d-2") == ["unsubscribe"]
    assert links.counts == {"recorded": 4}
    rows = links.store.tracked_links.unsubscribes(limit=9)
    assert [row.decision_id for row in rows] == ["d-1", "d-2"]


def test_events_have_the_time_of_the_request_and_the_keys_name(links):
    links.choose("d-1")
    links.now[0] += 60
    links.hit("d-1")
    links.now[0] += HOUR
    links.worker.look()
    (event,) = links.store.log.events("d-1")
    assert event.occurred_at == START + 60
    with links.store.database.reading() as transaction:
        query = "SELECT actor FROM batches WHERE kind = 'reward'"
        actors = transaction.connection.exec_driver_sql(query).scalars().all()
    assert actors == [f"tracking:{links.key.id}"]


def test_request_repeated_within_seconds_counts_once(links):
    links.choose("d-1")
    for _ in range(5):
        links.hit("d-1")
    links.hit("d-1", network_address="192.0.2.2")
    links.now[0] += 60
    links.hit("d-1")
    links.worker.look()
    assert links.counts == {"recorded": 3, "repeated": 4}


def test_machine_that_shows_itself_is_left_out_where_no_rules_judge_it(links):
    links.choose("d-1")
    links.hit("d-1", head=True)
    links.hit("d-1", kind=TokenKind.HONEYPOT)
    links.worker.look()
    assert links.events("d-1") == []
    assert links.counts == {"machine": 2}


def test_machine_that_shows_itself_judges_the_other_clicks_of_its_email(links, sender):
    rule = {"metrics": {"click": {}}, "window_seconds": 10 * HOUR}
    sender.start("judged", machine_rules=1, reward=rule)
    links.choose("j-1", "j-2", experiment="judged")
    links.choose("d-1")
    links.now[0] += HOUR
    links.hit("j-1", "d-1", agent=BROWSER)
    links.hit("j-1", "d-1", kind=TokenKind.HONEYPOT, agent=BROWSER)
    links.hit("j-2", agent=BROWSER)
    links.now[0] += 30
    links.hit("j-2", head=True, agent=BROWSER)
    links.worker.look()
    assert links.events("j-1") == links.events("j-2") == ["click", "click"]
    assert links.events("d-1") == ["click"]
    signs = {e.trace.signs for i in ("j-1", "j-2") for e in links.store.log.events(i)}
    assert signs == {0, EventSign.HEAD, EventSign.HONEYPOT}
    links.now[0] += HOUR
    links.engine.learn("judged")
    reasons = {
        i: sorted(event.reason or 0 for event in links.store.log.events(i)) for i in ("j-1", "j-2")
    }
    assert reasons == {
        "j-1": [VerdictReason.HONEYPOT, VerdictReason.HONEYPOT],
        "j-2": [VerdictReason.NONE, VerdictReason.HEAD],
    }
    rewards = {i: links.engine.receipt(i).reward for i in ("j-1", "j-2")}
    assert rewards == {"j-1": 0.0, "j-2": 1.0}


def test_name_of_a_program_makes_no_further_event(links):
    links.choose("d-1")
    for version in range(50):
        links.hit("d-1", agent=f"Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0.{version}")
    links.hit("d-1", agent="curl/8")
    links.worker.look()
    assert links.counts == {"recorded": 2, "repeated": 49}


def test_email_has_a_hundred_events_of_links_in_an_hour(links):
    links.choose("d-1", "d-2")
    for portion in range(3):  # also where they come little by little
        for number in range(80):
            links.hit("d-1", network_address=f"192.0.{portion}.{number}")
        links.worker.look()
    links.hit("d-1", kind=TokenKind.UNSUBSCRIBE)
    links.hit("d-2")
    links.worker.look()
    assert len(links.events("d-1")) == MOST_EVENTS_AN_HOUR + 1
    assert links.events("d-2") == ["click"]
    assert links.counts == {"recorded": 102, "machine": 140}
    links.now[0] += HOUR
    links.hit("d-1")
    links.worker.look()
    assert len(links.events("d-1")) == MOST_EVENTS_AN_HOUR + 2


def test_erased_subject_gets_no_event_from_its_links(links):
    links.choose("d-1", "d-2")
    links.hit("d-1")
    links.hit("d-1", kind=TokenKind.UNSUBSCRIBE)
    links.worker.look()
    links.hit("d-1", kind=TokenKind.OPEN)  # which is in the spool
    assert len(links.engine.subject("subject of d-1").signals) == 1
    assert links.engine.erase("subject of d-1", by="test").signals == 1
    assert links.store.spool.find(["d-1"]) == []
    assert links.store.tracked_links.unsubscribes(limit=9) == []
    links.hit("d-1")
    links.hit("d-1", kind=TokenKind.OPEN)
    links.worker.look()
    assert links.counts == {"recorded": 2, "without_decision": 2}
    assert links.store.tracked_links.unsubscribes(limit=9) == []


def test_later_decision_under_an_erased_id_gets_nothing_of_the_old_links(links):
    links.choose("d-1", "d-2")
    links.engine.erase("subject of d-1", by="test")
    links.engine.choose("spring", [Request("thief", decision_id="d-1")])
    links.hit("d-1", "d-2")
    links.hit("d-1", kind=TokenKind.UNSUBSCRIBE)
    links.worker.look()
    assert links.events("d-1") == []
    assert links.events("d-2") == ["click"]
    assert links.counts == {"recorded": 1, "without_decision": 2}
    (row,) = links.store.tracked_links.unsubscribes(limit=9)
    assert row.decision_id == "d-1"


def test_erased_subject_who_unsubscribes_later_is_heard(links):
    links.choose("d-1")
    links.engine.erase("subject of d-1", by="test")
    links.hit("d-1", kind=TokenKind.UNSUBSCRIBE)
    links.worker.look()
    assert links.events("d-1") == []
    (row,) = links.store.tracked_links.unsubscribes(limit=9)
    assert row.decision_id == "d-1"


def test_event_before_its_activation_waits_for_a_day(links, sender):
    sender.start("later", await_activation=True, reward={"metrics": {"click": {}}})
    links.choose("d-1", "d-2", experiment="later")
    links.hit("d-1", "d-2")
    links.worker.look()
    links.now[0] += 40
    assert links.worker.look() == 1
    links.engine.activate(["d-2"])
    links.now[0] += 40
    links.worker.look()
    assert (links.events("d-1"), links.events("d-2")) == ([], ["click"])
    links.now[0] += WAIT_SECONDS
    links.worker.look()
    links.now[0] += HOUR
    assert links.worker.look() == 0
    assert links.counts == {"recorded": 1, "expired": 1}


def test_database_away_for_an_hour_loses_nothing_and_doubles_nothing(links, monkeypatch):
    ids = [f"d-{i}" for i in range(60)]
    links.choose(*ids)
    mailer = Mailer()
    add_connection(
        links.store.connections,
        "sendgrid",
        "mailer",
        mailer.values,
        metrics={},
        at=START,
        by="test",
    )

    def away(*_args, **_options):
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(links.store.database, "reading", away)
        patch.setattr(links.store.database, "writing", away)
        for minute, decision_id in enumerate(ids):
            links.now[0] = START + 60 * minute
            links.hit(decision_id)
            events = [sendgrid_event(decision_id, "open", links.now[0])]
            body, headers = mailer.request(events, at=links.now[0])
            delivery = Delivery.of("POST", headers.items(), body)
            at = links.now[0]
            links.store.spool.append(spool_record("sendgrid", "mailer", delivery, at=at))
            with pytest.raises(Unavailable):
                links.worker.look()
    links.now[0] = START + HOUR
    assert links.worker.look() == 120
    assert {tuple(links.events(i)) for i in ids} == {("click", "open")}
    times = [e.occurred_at for i in ids for e in links.store.log.events(i) if e.metric == "click"]
    assert times == [START + 60 * minute for minute in range(60)]
    assert links.counts == {"recorded": 60}
    counts = links.store.connections.find("mailer").counts
    assert (counts.deliveries, counts.recorded) == (60, 60)


def test_crash_between_record_and_removal_counts_once(links, monkeypatch):
    links.choose("d-1", "d-2")
    links.hit("d-1")
    links.hit("d-2", kind=TokenKind.UNSUBSCRIBE)

    def crash(*_args, **_options):
        raise Unavailable("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(links.store.tracked_links, "note", crash)
        with pytest.raises(Unavailable):
            links.worker.look()
    links.worker.look()
    assert (links.events("d-1"), links.events("d-2")) == (["click"], ["unsubscribe"])
    assert links.counts == {"repeated": 2}
    assert len(links.store.tracked_links.unsubscribes(limit=9)) == 1


def test_delivery_of_a_deleted_connection_is_dropped(links):
    delivery = Delivery("POST", {}, b"[]")
    links.store.spool.append(spool_record("sendgrid", "gone", delivery, at=START))
    assert links.worker.look() == 1
    assert links.worker.look() == 0


def test_record_that_fails_in_a_way_of_its_own_holds_up_no_other(links, caplog):
    links.choose("d-1")
    links.store.spool.append(SpoolRecord("tracked links", START, b"", b"{nonsense"))
    links.hit("d-1")
    links.worker.look()
    assert links.events("d-1") == ["click"]
    assert "cannot record one of the tracked links" in caplog.text
    links.now[0] += WAIT_SECONDS
    links.worker.look()
    links.now[0] += HOUR
    assert links.worker.look() == 0


def test_worker_that_is_to_stop_leaves_the_rest(links):
    links.choose("d-1")
    links.hit("d-1")
    links.stop.set()
    with pytest.raises(Unavailable):
        links.worker.look()
    links.stop.clear()
    assert links.worker.look() == 1
