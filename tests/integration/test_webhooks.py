"""Webhooks as senders meet them: proved, counted once, and answered as each sender expects."""

from io import BytesIO
from threading import Event

import pytest
from flask import request

from bandits.errors import Unavailable
from storage.connections import Cipher
from tests.integration.conftest import NOW
from tests.senders import STRANGER
from tests.webhook_senders import Mailer, Shop, sendgrid_event
from webapp.signals.delivery import MAX_BODY_BYTES
from webapp.signals.kind_registry import connection_kinds
from webapp.signals.kinds.sendgrid import SIGNATURE, TIMESTAMP
from webapp.signals.signal_event import SignalBatch
from webapp.slow_bodies import BODY_SECONDS
from webapp.spool_worker import SpoolWorker
from webapp.webhooks.connection_setup import add_connection
from webapp.webhooks.receiver import receiver

SENDGRID, SHOP = "/webhooks/sendgrid/mailer", "/webhooks/standard_webhooks/shop"


class Webhooks:
    """The API, with a connection of each of two kinds, and who delivers to them."""

    def __init__(self, api) -> None:
        self.api = api
        self.connections = api.app.extensions["bandits"].connections
        self.sendgrid, self.shop = Mailer(), Shop()
        self.add("sendgrid", "mailer", self.sendgrid.values)
        self.add("standard_webhooks", "shop", self.shop.values)

    def add(self, kind: str, key: str, values: dict[str, str]) -> None:
        add_connection(
            self.connections, kind, key, values, metrics={}, at=self.api.clock(), by="test"
        )

    def signed(self, *events):
        """Sign a delivery of SendGrid's."""
        return self.sendgrid.request(events, at=self.api.clock())

    def post(self, path: str, request, **changed):
        body, headers = request
        return self.api.client.post(path, data=body, headers=headers | changed)

    def event(self, decision_id: str | None, name: str = "click", **more):
        return sendgrid_event(decision_id, name, self.api.clock(), **more)

    def order(self, own_id: str, decision_id: str, value: float, *, signed_at: float | None = None):
        now = self.api.clock()
        signed_at = now if signed_at is None else signed_at
        return self.shop.request(own_id, decision_id, value, at=now, signed_at=signed_at)

    def state(self, key: str = "mailer"):
        return self.connections.find(key)


@pytest.fixture
def hooks(api) -> Webhooks:
    api.start()
    return Webhooks(api)


def test_sendgrid_delivery_counts_once_however_often_it_comes(hooks):
    made = hooks.api.choose()["decision_id"]
    request = hooks.signed(hooks.event(made), hooks.event(made, "open"))
    for _ in range(3):
        answer = hooks.post(SENDGRID, request)
        assert (answer.status_code, answer.text) == (200, "ok\n")
    events = {e.metric: e.value for e in hooks.api.engine.store.log.events(made)}
    assert events == {"click": 1.0, "open": 1.0}
    counts = hooks.state().counts
    assert (counts.deliveries, counts.recorded, counts.repeated) == (3, 2, 4)


def test_shop_delivery_counts_an_order_at_its_value(hooks):
    made = hooks.api.choose()["decision_id"]
    assert hooks.post(SHOP, hooks.order("o-1", made, 49.5)).status_code == 200
    (order,) = hooks.api.engine.store.log.events(made)
    assert (order.metric, order.value, order.occurred_at) == ("order", 49.5, NOW)


def test_delivery_sets_no_cookie_and_needs_no_form(hooks):
    answer = hooks.post(SENDGRID, hooks.signed())
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_bad_event_leaves_its_batch_alone(hooks):
    made = hooks.api.choose()["decision_id"]
    unreadable = {"event": "nonsense", "sg_event_id": "x", "bandits_decision": made}
    events = [hooks.event(made, timestamp="?"), unreadable, 7, hooks.event(made, "open")]
    assert hooks.post(SENDGRID, hooks.signed(*events)).status_code == 200
    assert [e.metric for e in hooks.api.engine.store.log.events(made)] == ["open"]
    assert hooks.state().counts.refused == 3
    assert hooks.post(SENDGRID, hooks.signed(*events)).status_code == 200
    assert hooks.state().counts.refused == 3


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({SIGNATURE: ""}, 401),
        ({SIGNATURE: "AAAA"}, 401),
        ({TIMESTAMP: "1"}, 401),
        ({"content-type": "text/plain"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_delivery_that_is_not_proved_is_refused_and_stores_nothing(hooks, changed, status):
    made = hooks.api.choose()["decision_id"]
    request = hooks.signed(hooks.event(made), {"bad": 1})
    answer = hooks.post(SENDGRID, request, **changed)
    assert answer.status_code == status
    assert hooks.api.engine.store.log.events(made) == []
    counts = hooks.state().counts
    assert (counts.deliveries, counts.refused, counts.rejected) == (0, 0, 1)
    assert hooks.state().rejection


def test_rejections_are_counted_together_so_that_strangers_cost_no_writes(hooks):
    for _ in range(20):
        answer = hooks.api.client.post(SENDGRID, data=b"[]", content_type="application/json")
        assert answer.status_code == 401
    assert hooks.state().counts.rejected == 1
    receiver_of(hooks).rejections._noted.clear()
    hooks.api.client.post(SENDGRID, data=b"[]", content_type="application/json")
    assert hooks.state().counts.rejected == 21


def receiver_of(hooks):
    with hooks.api.app.app_context():
        return receiver()


def test_both_secrets_work_during_a_rotation(hooks):
    made = hooks.api.choose()["decision_id"]
    old, new = hooks.shop, Shop(STRANGER)
    hooks.connections.rotate("shop", new.values, grace_seconds=100, at=NOW, by="test")
    assert hooks.post(SHOP, hooks.order("o-1", made, 1.0)).status_code == 200
    hooks.shop = new
    assert hooks.post(SHOP, hooks.order("o-2", made, 1.0)).status_code == 200
    hooks.api.clock.now += 101
    hooks.connections._recent.clear()
    assert hooks.post(SHOP, hooks.order("o-3", made, 1.0)).status_code == 200
    hooks.shop = old
    assert hooks.post(SHOP, hooks.order("o-4", made, 1.0)).status_code == 401


def test_stale_signature_is_refused_only_where_retries_are_signed_anew(hooks):
    made = hooks.api.choose()["decision_id"]
    old = hooks.sendgrid.request([hooks.event(made)], at=NOW - 80_000)
    assert hooks.post(SENDGRID, old).status_code == 200
    stale = hooks.order("o-1", made, 1.0, signed_at=NOW - 301)
    assert hooks.post(SHOP, stale).status_code == 401


@pytest.mark.parametrize(
    "path", ["/webhooks/sendgrid/nobody", "/webhooks/nothing/mailer", "/webhooks/sendgrid/shop"]
)
def test_unknown_address_is_not_found_without_reading_a_body(hooks, path):
    answer = hooks.api.client.post(path, data=b"x" * 100_000)
    assert answer.status_code == 404
    assert answer.text == "there is no such connection\n"


def test_methods_are_answered_as_each_kind_expects(hooks):
    assert hooks.api.client.get(SENDGRID).status_code == 405
    assert hooks.api.client.get(SENDGRID).headers["Allow"] == "POST"
    mandrill = connection_kinds()["mandrill"]
    values = {f.name: "a key that is long enough" for f in mandrill.fields if f.required}
    hooks.add("mandrill", "old", values)
    assert hooks.api.client.head("/webhooks/mandrill/old").status_code == 200


def test_body_that_is_too_large_is_refused(hooks):
    _, headers = hooks.signed()
    assert hooks.post(SENDGRID, (b"[" + b" " * MAX_BODY_BYTES + b"]", headers)).status_code == 413


def test_paused_connection_asks_its_sender_to_come_again(hooks):
    made = hooks.api.choose()["decision_id"]
    request = hooks.signed(hooks.event(made))
    hooks.connections.set_paused("mailer", paused=True, at=NOW, by="test")
    answer = hooks.post(SENDGRID, request)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert hooks.state().counts.rejected == 0
    hooks.connections.set_paused("mailer", paused=False, at=NOW, by="test")
    assert hooks.post(SENDGRID, request).status_code == 200
    assert len(hooks.api.engine.store.log.events(made)) == 1


@pytest.mark.parametrize("place", ["open", "delivery_writer"])
@pytest.mark.parametrize(("kind", "status"), [("sendgrid", 503), ("brevo", 429)])
def test_database_away_is_never_answered_with_success(hooks, monkeypatch, place, kind, status):
    made = hooks.api.choose()["decision_id"]
    path, request = SENDGRID, hooks.signed(hooks.event(made))
    if kind == "brevo":
        brevo = Mailer("brevo")
        hooks.add("brevo", "letters", brevo.values)
        item = {"event": "click", "email": "a@b.example", "ts_epoch": int(1000 * NOW)}
        item |= {"message-id": "<m@x>", "X-Mailin-custom": f"bandits_1:{made}"}
        path, request = "/webhooks/brevo/letters", brevo.request([item], at=NOW)

    def fail(*_, **__):
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(hooks.connections, place, fail, raising=True)
        patch.setattr(hooks.api.engine.store.spool, "append", fail)
        assert hooks.post(path, request).status_code == status
    assert hooks.post(path, request).status_code == 200
    assert len(hooks.api.engine.store.log.events(made)) == 1


@pytest.mark.parametrize("place", ["open", "delivery_writer"])
def test_delivery_that_is_proved_while_the_database_is_away_is_kept(hooks, monkeypatch, place):
    made = hooks.api.choose()["decision_id"]
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 200  # the secret is in memory

    def fail(*_, **__):
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(hooks.connections, place, fail, raising=True)
        stranger = Mailer(number=STRANGER).request([hooks.event(made)], at=NOW)
        assert hooks.post(SENDGRID, stranger).status_code == 401
        for _ in range(2):
            assert hooks.post(SENDGRID, hooks.signed(hooks.event(made))).status_code == 200
        assert hooks.post(SHOP, hooks.order("o-1", made, 5.0)).status_code in {200, 503}
    worker = SpoolWorker(hooks.api.engine, hooks.api.engine.store, Event())
    worker.look()
    assert [e.metric for e in hooks.api.engine.store.log.events(made)].count("click") == 1
    assert worker.look() == 0


def test_delivery_to_a_connection_that_was_never_read_is_not_kept(hooks, monkeypatch):
    def fail(*_, **__):
        raise Unavailable("away")

    monkeypatch.setattr(hooks.connections, "open", fail)
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 503
    assert hooks.api.engine.store.spool.size() == 0


def test_failure_of_ours_asks_the_sender_to_come_again(hooks, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("webapp.webhooks.receiver.receive", fail)
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 503
    assert "webhook mailer failed" in caplog.text


def test_secret_under_another_key_asks_the_sender_to_come_again(hooks):
    hooks.connections._cipher = Cipher(["k" * 32])
    hooks.connections.rotate("mailer", {"a": "b"}, grace_seconds=0, at=NOW, by="test")
    hooks.connections._cipher = Cipher()
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 503


class UnreadBody(BytesIO):
    """Body of a request that nobody may read."""

    def read(self, *_):
        raise AssertionError("the body was read")

    readinto = read


def test_body_of_a_delivery_that_nothing_proves_is_not_read(hooks):
    hooks.add("postmark", "letters", {"password": "p" * 20})
    paths = [SENDGRID, SHOP, "/webhooks/postmark/letters"]
    for path in paths:
        answer = hooks.api.client.post(
            path,
            input_stream=UnreadBody(b"{"),
            content_length=3_000_000,
            content_type="application/json",
        )
        assert answer.status_code == 401, path
    counts = [hooks.state(path.rpartition("/")[2]).counts.rejected for path in paths]
    assert counts == [1, 1, 1]


def test_body_that_is_not_proved_yet_has_little_time(hooks, monkeypatch):
    seconds = []

    def watch(kind, *_, **__):
        seconds.append(request.environ.get(BODY_SECONDS))
        return SignalBatch()

    monkeypatch.setattr("webapp.webhooks.receiver.receive", watch)
    password = "p" * 20
    hooks.add("postmark", "letters", {"password": password})
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 200
    path, proof = "/webhooks/postmark/letters", ("bandits", password)
    assert hooks.api.client.post(path, json={}, auth=proof).status_code == 200
    assert seconds == [5.0, None]


def test_places_for_bodies_of_one_connection_leave_some_to_others(hooks):
    """Before: bodies to one connection filled all places, and every other was answered 503."""
    places = receiver_of(hooks)._places
    held = [places.taken(f"10.0.0.{i}", "shop") for i in range(places.of_one_receiver)]
    for place in held:
        place.__enter__()
    try:
        assert hooks.post(SENDGRID, hooks.signed()).status_code == 200
        assert hooks.post(SHOP, hooks.order("o-1", "d-1", 1.0)).status_code == 503
    finally:
        for place in held:
            place.__exit__(None, None, None)
    assert hooks.post(SHOP, hooks.order("o-1", "d-1", 1.0)).status_code == 200


def test_places_for_bodies_of_strangers_are_few(hooks):
    places = receiver_of(hooks)._places
    held = [places.taken(f"10.0.0.{i}", f"c-{i}") for i in range(places.at_once)]
    for place in held:
        place.__enter__()
    try:
        assert hooks.post(SENDGRID, hooks.signed()).status_code == 503
    finally:
        for place in held:
            place.__exit__(None, None, None)
    assert hooks.post(SENDGRID, hooks.signed()).status_code == 200


def test_logs_and_answers_never_hold_a_secret(hooks, caplog):
    secret = hooks.shop.values["signing_secret"]
    with caplog.at_level("DEBUG"):
        hooks.post(SHOP, hooks.order("o-1", "d", 1.0), **{"webhook-signature": "v1,AAAA"})
        shown = hooks.api.get("/connections").text + hooks.api.get("/connections/shop").text
    assert secret not in shown + caplog.text
    assert secret not in repr(hooks.connections.open("shop", at=NOW))
