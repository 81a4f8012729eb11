"""Webhooks over a real server: doubled, late, out of order, partly bad, and a kill -9."""

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import httpx
import pytest

from storage import open_store
from tests.patience import LIMIT_SECONDS, wait_until
from tests.webhook_senders import Mailer, Request, Shop, sendgrid_event

CAMPAIGN = {
    "key": "spring",
    "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
    "policy": {"name": "thompson_gaussian"},
    "reward": {
        "metrics": {"click": {}, "order": {"count": "sum", "high": 1000.0}},
        "window_seconds": 86400,
        "maturity_seconds": 0,
    },
    "learn_every_seconds": 0.5,
}
PEOPLE = 40


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request) -> str:
    return request.getfixturevalue(request.param).empty()


class Mailing:
    """A campaign that was sent, and what its mailer and shop have to report."""

    def __init__(self, server) -> None:
        self.sendgrid, self.shop = Mailer(), Shop()
        for sender, key in ((self.sendgrid, "mailer"), (self.shop, "shop")):
            (value,) = sender.values.values()
            server.bandits("connection", "add", sender.kind, key, "--secret-stdin", typed=value)
        with server.client() as api:
            assert api.post("/api/v1/experiments", json=CAMPAIGN).status_code == 201
            assert api.post("/api/v1/experiments/spring/start").status_code == 200
        self.ids = [f"d-{i}" for i in range(PEOPLE)]
        self.at = time.time()

    def choose(self, server, ids: list[str]) -> None:
        rows = [{"subject_id": f"u-{i}", "decision_id": i} for i in ids]
        with server.client() as api:
            answer = api.post("/api/v1/experiments/spring/choose/batch", json={"requests": rows})
            assert answer.is_success, answer.text

    def deliveries(self) -> Iterator[tuple[str, Request]]:
        """Make each delivery: batches with bad events among good ones, and single orders."""
        for start in range(0, PEOPLE, 4):
            events = []
            for decision_id in self.ids[start : start + 4]:
                events.append(sendgrid_event(decision_id, "open", self.at))
                events.append(sendgrid_event(decision_id, "click", self.at + 1))
            events.insert(3, {"event": "click", "timestamp": f"yesterday {start}"})
            random.Random(start).shuffle(events)
            yield "/webhooks/sendgrid/mailer", self.sendgrid.request(events, at=self.at)
        for i, decision_id in enumerate(self.ids[::2]):
            order = self.shop.request(
                f"o-{i}", decision_id, 10.0 + i, at=self.at, signed_at=self.at
            )
            yield "/webhooks/standard_webhooks/shop", order


def test_every_event_counts_once_whatever_happens(start_server, url) -> None:
    server = start_server(database_url=url)
    mailing = Mailing(server)
    mailing.choose(server, mailing.ids[: PEOPLE // 2])  # the others' events come first
    deliveries = list(mailing.deliveries()) * 2  # each comes twice,
    random.Random(5).shuffle(deliveries)  # in any order
    restarted, answered = Event(), []

    def deliver(delivery: tuple[str, Request]) -> None:
        """Send as a mailer does: again until it is taken."""
        path, (body, headers) = delivery
        while True:
            try:
                answer = httpx.post(
                    server.url + path, content=body, headers=headers, timeout=LIMIT_SECONDS
                )
            except httpx.HTTPError:
                restarted.wait(LIMIT_SECONDS)
                continue
            if answer.status_code == 200:
                answered.append(path)
                return
            assert answer.status_code == 503, answer.text

    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(deliver, delivery) for delivery in deliveries]
        wait_until(lambda: len(answered) >= 10, "answered deliveries")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(LIMIT_SECONDS)
        server = start_server(database_url=url)
        restarted.set()
        for future in sent:
            future.result(LIMIT_SECONDS)

    mailing.choose(server, mailing.ids[PEOPLE // 2 :])
    with closing(open_store(url)) as store:
        connections = store.connections

        def waiting() -> int:
            return sum(connection.unmatched for connection in connections.all())

        wait_until(waiting, "match of all events", lambda n: n == 0)
        for i, decision_id in enumerate(mailing.ids):
            events = store.log.events(decision_id)
            expected = {"open": 1.0, "click": 1.0} | ({"order": 10.0 + i / 2} if i % 2 == 0 else {})
            assert {e.metric: e.value for e in events} == expected
            assert len(events) == len(expected)
        mailer, shop = connections.find("mailer"), connections.find("shop")
        assert mailer.counts.refused == PEOPLE // 4
        assert (mailer.counts.rejected, shop.counts.rejected) == (0, 0)
        clicks = 2 * PEOPLE
        assert mailer.counts.recorded <= clicks  # what was counted just before the kill is repeated
        assert mailer.counts.recorded + mailer.counts.repeated >= clicks
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_server_with_a_key_keeps_secrets_encrypted(start_server, sqlite) -> None:
    url, key = sqlite.empty(), "k" * 40
    server = start_server(database_url=url, BANDITS_ENCRYPTION_KEY=key)
    sendgrid = Mailer()
    with server.client() as api:
        body = {"kind": "sendgrid", "key": "mailer", "values": sendgrid.values}
        made = api.post("/api/v1/connections", json=body)
        assert made.json()["connection"]["encrypted"] is True
        content, headers = sendgrid.request([{"bad": "event of ann@shop.example"}], at=time.time())
        sent = httpx.post(
            f"{server.url}/webhooks/sendgrid/mailer",
            content=content,
            headers=headers,
            timeout=LIMIT_SECONDS,
        )
        assert sent.status_code == 200
        (refused,) = api.get("/api/v1/connections/mailer/refused").json()["refused"]
        read = api.get(f"/api/v1/connections/mailer/refused/{refused['id']}").json()
        assert "ann@shop.example" in read["content"]
    assert server.stop() == 0
    database = url.removeprefix("sqlite:///")
    with open(database, "rb") as file:  # noqa: PTH123 - as anybody who copies it reads it
        stored = file.read()
    assert b"ann@shop.example" not in stored
    (secret,) = sendgrid.values.values()
    assert secret.encode() not in stored
    log = server.log.read_text()
    assert secret not in log
    assert key not in log
