"""Orders known by their customers alone, over a real server, with two campaigns that run."""

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from storage import open_store
from storage.log.subject_index import count_pending_rows
from tests.patience import LIMIT_SECONDS, wait_until
from tests.webhook_senders import Shop

ORDERS = {"order": {"count": "sum", "low": -1000.0, "high": 1000.0}}
CAMPAIGN: dict[str, Any] = {
    "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
    "policy": {"name": "thompson_gaussian"},
    "reward": {"metrics": ORDERS, "window_seconds": 86_400, "maturity_seconds": 0},
    "learn_every_seconds": 0.5,
    "attribution": "last",
}
PEOPLE = [f"customer-{i}" for i in range(20)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request) -> str:
    return request.getfixturevalue(request.param).empty()


class Shopping:
    """Two campaigns, and a shop that reports some orders by webhook and others by the API."""

    def __init__(self, server) -> None:
        self.server, self.shop = server, Shop()
        (secret,) = self.shop.values.values()
        server.bandits(
            "connection", "add", "standard_webhooks", "shop", "--secret-stdin", typed=secret
        )
        with server.client() as api:
            for key in ("spring", "summer"):
                assert api.post("/api/v1/experiments", json=CAMPAIGN | {"key": key}).is_success
                assert api.post(f"/api/v1/experiments/{key}/start").is_success

    def send(self, key: str, wave: int, people: list[str]) -> None:
        rows = [{"subject_id": name, "decision_id": f"{key}-{wave}-{name}"} for name in people]
        path = f"/api/v1/experiments/{key}/choose/batch"
        with self.server.client() as api:
            assert api.post(path, json={"requests": rows}).is_success

    def report(self, name: str, event_id: str, value: float, at: float, original: str = "") -> str:
        """Report an order or a refund by webhook, of the first half of people, else by the API."""
        if PEOPLE.index(name) < len(PEOPLE) // 2:
            data = {"subject_id": name, "value": value, "original_id": original}
            body, headers = self.shop.event(event_id, "order", data, at=at, signed_at=time.time())
            answer = httpx.post(
                f"{self.server.url}/webhooks/standard_webhooks/shop",
                content=body,
                headers=headers,
                timeout=LIMIT_SECONDS,
            )
            assert answer.status_code == 200, answer.text
            return "webhook"
        row = {"subject_id": name.title(), "event_id": event_id, "metric": "order", "value": value}
        row |= {"occurred_at": datetime.fromtimestamp(at, UTC).isoformat()}
        row |= {"original_event_id": original} if original else {}
        with self.server.client() as api:
            answer = api.post("/api/v1/rewards", json={"rewards": [row]})
        assert answer.is_success, answer.text
        (outcome,) = [k for k, v in answer.json().items() if v]
        return outcome


def test_order_known_by_its_customer_reaches_the_right_email(start_server, url) -> None:
    server = start_server(database_url=url)
    shopping = Shopping(server)
    shopping.send("spring", 1, PEOPLE)
    before = time.time()
    shopping.send("summer", 1, PEOPLE[::2])  # every second one gets another campaign's email too
    orders = [(name, f"order-of-{name}", time.time()) for name in PEOPLE]
    orders += [(name, f"early-order-of-{name}", before) for name in PEOPLE[::2]]
    first = [shopping.report(name, event_id, 10.0, at) for name, event_id, at in orders]
    assert set(first) == {"webhook", "accepted"}
    shopping.send("summer", 2, PEOPLE)  # a newer email, before each order is reported again
    again = [shopping.report(name, event_id, 10.0, at) for name, event_id, at in orders]
    assert set(again) == {"webhook", "repeated"}
    for name in PEOPLE[:12]:
        shopping.report(name, f"refund-of-{name}", -4.0, time.time(), f"order-of-{name}")

    with closing(open_store(url)) as store:
        shop = store.connections.find("shop").counts
        assert (shop.recorded, shop.repeated, shop.without_decision) == (25, 15, 0)

        def earned(decision_id: str) -> float:
            return sum(e.value for e in store.log.events(decision_id))

        for i, name in enumerate(PEOPLE):
            late = 6.0 if i < 12 else 10.0  # less what was refunded
            both = i % 2 == 0
            assert earned(f"spring-1-{name}") == (10.0 if both else late)
            assert not both or earned(f"summer-1-{name}") == late
            assert earned(f"summer-2-{name}") == 0.0

        def indexed() -> bool:
            spring = store.experiments.record("spring")
            with store.database.reading() as transaction:
                return count_pending_rows(transaction, spring.id) == 0

        wait_until(indexed, "index of subjects")
    assert shopping.report(PEOPLE[-1], f"order-of-{PEOPLE[-1]}", 10.0, orders[-1][2]) == "repeated"
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
