"""Deliveries of a mailer's events over HTTP, beside the same events by ``POST /rewards``."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

from drivers import Place, places
from measuring import Row, compare
from msgspec.json import decode, encode
from serving import KEY, Server, line, post, serving

from storage import open_store
from tests.senders import AGENT, LINK, NETWORK
from tests.webhook_senders import Mailer, sendgrid_event
from webapp.webhooks.connection_setup import add_connection

EVENTS = 500  # of one delivery
DELIVERIES = 20  # in one round
PATH = "/webhooks/sendgrid/mailer"

_subjects = count()


def run(rounds: int) -> list[Row]:
    """Measure on both databases."""
    rows = []
    with tempfile.TemporaryDirectory() as name, places(Path(name)) as opened:
        for place in opened:
            with serving(place.url, Path(name)) as server:
                rows += deliveries(place, server, rounds)
    return rows


def deliveries(place: Place, server: Server, rounds: int) -> Iterator[Row]:
    """Measure clicks of decisions, each with the request behind it, one delivery after the other.

    Half of the decisions are reported by the mailer, the other half by the API.
    """
    mailer = Mailer()
    with closing(open_store(place.url)) as store:
        now = time.time()
        add_connection(
            store.connections, "sendgrid", "mailer", mailer.values, metrics={}, at=now, by="bench"
        )
    n = DELIVERIES * (rounds + 1)
    signed = [_delivery(mailer, ids) for ids in _decisions(server, n)]
    plain = [_rewards(server, ids) for ids in _decisions(server, n)]
    with line(server.place) as send:

        def deliver() -> None:
            for _ in range(DELIVERIES):
                send(signed.pop())

        def reward() -> None:
            for _ in range(DELIVERIES):
                if decode(send(plain.pop()))["accepted"] != EVENTS:
                    raise RuntimeError("some events were not accepted")

        yield compare(
            f"webhook deliveries of {EVENTS} events, {place.name}",
            deliver,
            reward,
            n=DELIVERIES * EVENTS,
            unit="events",
            beside=f"rewards of {EVENTS}",
            rounds=rounds,
            least_ratio=0.5,
        )
    with closing(open_store(place.url)) as store:
        counts = store.connections.find("mailer").counts
    if counts.recorded != n * EVENTS:
        raise RuntimeError(f"{counts.recorded:,} events of {n * EVENTS:,} were recorded")


def _decisions(server: Server, n: int) -> Iterator[list[str]]:
    """Choose for n times as many recipients as a delivery has events."""
    path = f"/experiments/{KEY}/choose/batch"
    for _ in range(n):
        requests = [{"subject_id": f"w-{next(_subjects)}"} for _ in range(EVENTS)]
        answer = server.client.post(path, json={"requests": requests}).raise_for_status()
        yield [decision["decision_id"] for decision in answer.json()["decisions"]]


def _delivery(mailer: Mailer, ids: list[str]) -> bytes:
    """Write a signed delivery as it goes over the wire."""
    now = time.time()
    behind = {"url": LINK, "useragent": AGENT, "ip": NETWORK}
    items = [sendgrid_event(i, "click", now, **behind) for i in ids]
    body, headers = mailer.request(items, at=now)
    lines = [f"{name}: {text}" for name, text in headers.items()]
    head = [f"POST {PATH} HTTP/1.1", "Host: bench", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def _rewards(server: Server, ids: list[str]) -> bytes:
    """Write the same events as the API takes them."""
    behind = {"url": LINK, "user_agent": AGENT, "ip": NETWORK, "recipient": "ann@shop.example"}
    event = {"event_id": "e", "metric": "click", "occurred_at": _now(), "tracking": behind}
    rewards = [{"decision_id": i, **event} for i in ids]
    return post("/api/v1/rewards", encode({"rewards": rewards}), server.token)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
