"""Clicks and views of a listmonk server, pulled."""

from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Event

import pytest

from bandits.errors import InvalidInput
from bandits.schemas import Request
from tests.integration.conftest import NOW
from tests.listmonk_server import CAMPAIGN, PASSWORD, ListmonkServer, subscriber_uuid
from webapp.egress import EgressGuard
from webapp.listmonk.pull_worker import OVERLAP_SECONDS, PullWorker
from webapp.webhooks.connection_setup import (
    add_connection,
    configure_connection,
    rotate_connection,
)

LOCAL = "127.0.0.0/8"


@pytest.fixture
def server() -> Iterator[ListmonkServer]:
    server = ListmonkServer().start()
    yield server
    server.stop()


def connect(store, server: ListmonkServer, at: float):
    values = {
        "password": PASSWORD,
        "api_url": server.url,
        "api_user": "bandits",
        "api_token": "a token",
    }
    return add_connection(store, "listmonk", "lists", values, metrics={}, at=at, by="test")


class Desk:
    """A campaign whose choices went out by listmonk."""

    def __init__(self, api, server: ListmonkServer) -> None:
        self.api, self.server = api, server
        self.connections = api.app.extensions["bandits"].connections
        connect(self.connections, server, NOW)
        api.start()
        ids = [f"{CAMPAIGN}.{subscriber_uuid(n)}" for n in range(20)]
        requests = [Request(f"u-{i}", decision_id=i) for i in ids]
        api.engine.choose("spring", requests)
        self.worker = self.new_worker()

    def new_worker(self, networks: str = LOCAL) -> PullWorker:
        return PullWorker(self.api.engine, self.connections, EgressGuard(networks), Event())

    def events(self, number: int) -> list[str]:
        log = self.api.engine.store.log
        return [e.metric for e in log.events(f"{CAMPAIGN}.{subscriber_uuid(number)}")]

    def state(self):
        return self.connections.find("lists")


@pytest.fixture
def desk(api, server) -> Desk:
    return Desk(api, server)


def told(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat(timespec="microseconds")


def test_clicks_and_views_are_counted_once_however_often_they_are_pulled(desk):
    desk.server.clicks = [(n, "https://shop.example/a", told(n)) for n in range(5)]
    desk.server.views = [(n, told(n)) for n in range(10)]
    desk.api.clock.now += 60
    assert desk.worker.look() == 15
    desk.server.clicks.append((0, "https://shop.example/a", told(30)))
    desk.api.clock.now += 60
    assert desk.new_worker().look() == 1
    assert sorted(desk.events(0)) == ["click", "click", "open"]
    assert desk.state().counts.recorded == 16


def test_pull_begins_before_the_last_complete_one(desk, monkeypatch):
    desk.server.views = [(0, told(1))]
    desk.api.clock.now += 60
    desk.worker.look()
    desk.server.status = 500
    desk.api.clock.now += 10_000
    assert desk.new_worker().look() == 0
    assert "answered 500" in desk.state().rejection
    desk.server.status = 200
    desk.new_worker().look()
    since = datetime.fromisoformat(desk.server.queries()[-1]["since"]).timestamp()
    assert since == NOW + 60 - OVERLAP_SECONDS


def test_server_is_asked_at_its_turn_alone(desk):
    desk.worker.look()
    desk.worker.look()
    assert len(desk.server.queries()) == 1
    desk.connections.set_paused("lists", paused=True, at=NOW, by="test")
    desk.new_worker().look()
    assert len(desk.server.queries()) == 1


def test_private_address_is_called_only_where_it_is_allowed(desk):
    desk.new_worker(networks="").look()
    assert desk.server.queries() == []
    assert "private network" in desk.state().rejection


def test_row_that_cannot_be_read_takes_no_other_with_it(desk):
    desk.server.clicks = [(0, "https://a.example", "yesterday"), (1, "https://a.example", told(1))]
    desk.worker.look()
    assert (desk.events(0), desk.events(1)) == ([], ["click"])
    assert desk.state().counts.refused == 1


def test_rotation_of_the_password_keeps_the_token(desk):
    rotated = rotate_connection(desk.connections, "lists", {}, grace_seconds=0, at=NOW, by="test")
    _, secrets = desk.connections.open("lists", at=NOW)
    assert secrets.current["api_token"] == "a token"
    assert secrets.current["password"] == rotated.generated["password"] != PASSWORD


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://lists.example.com",
        "lists.example.com",
        "https://",
        "https://user:word@lists.example.com",
        "https://lists.example.com:99999",
        "http://[::1",
        "javascript:alert(1)",
    ],
)
def test_address_that_is_no_servers_is_refused_when_it_is_typed_in(api, problem, address):
    """Before: it was taken with 201, and refused at each pull alone."""
    body = {"key": "lists", "kind": "listmonk", "values": {"password": PASSWORD}}
    values = {"api_url": address, "api_user": "bandits", "api_token": "a token"}
    refused = api.post("/connections", body | {"values": body["values"] | values})
    (fault,) = problem(refused, 422, "invalid")["errors"]
    assert fault["pointer"] == "/values/api_url"
    assert "https://lists.example.com" in fault["detail"]
    assert api.post("/connections", body).status_code == 201
    store = api.app.extensions["bandits"].connections
    with pytest.raises(InvalidInput):
        configure_connection(store, "lists", {"api_url": address}, metrics={}, at=NOW, by="test")
