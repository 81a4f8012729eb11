"""Forged hits: what strangers, recipients and stolen keys can make of tracked links, by figures.

Each test names what the attack achieved before its defence, and what it achieves after.
"""

import re
from threading import Event

import pytest

from webapp.links.link_views import PUBLIC_URL
from webapp.spool_worker import SpoolWorker

FIRST = "2000-01-01T00:00:00Z"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ROOT = "https://links.shop.example"
HTML = "<a href='https://shop.example/buy'>x</a></body>"
RULE = {"metrics": {"click": {}}, "window_seconds": 86_400.0, "maturity_seconds": 60.0}


class Shop:
    """A campaign, its API, and what its links' requests do."""

    def __init__(self, api) -> None:
        self.api, self.store = api, api.engine.store
        self.store.tracked_links.set_hosts(["shop.example"], at=api.clock(), by="test")
        self.tracking_key = self.store.tracked_links.create("test", at=api.clock(), by="test").key
        api.app.config[PUBLIC_URL] = ROOT
        self.worker = SpoolWorker(api.engine, self.store, Event())

    def rewrite(self, token: str, *ids: str) -> dict:
        answer = self.api.post(
            "/tracking/rewrite", {"html": HTML, "decision_ids": ids}, token=token
        )
        assert answer.status_code == 200, answer.text
        return answer.json

    def visit(self, email: dict, **headers: str) -> None:
        """Follow every link of an email, the hidden one too, load its pixel and unsubscribe."""
        for path in re.findall(rf"{ROOT}(/[to]/[\w.-]+)", email["html"]):
            assert self.api.client.get(path, headers=headers).status_code in {200, 302}
        if email["unsubscribe_url"] is not None:
            path = email["unsubscribe_url"].removeprefix(ROOT)
            assert self.api.client.post(path).status_code == 200
        self.worker.look()

    def events(self, decision_id: str) -> list[str]:
        return sorted(event.metric for event in self.store.log.events(decision_id))

    def unsubscribed(self) -> list[str]:
        return [row.decision_id for row in self.store.tracked_links.unsubscribes(limit=1000)]


@pytest.fixture
def shop(api) -> Shop:
    api.start(reward=RULE)
    return Shop(api)


def test_key_signs_no_links_of_what_another_key_chose(api, shop):
    """Before: clicks, opens, machines' verdicts and unsubscribes for anybody's decisions."""
    victim, thief = api.key("choose"), api.key("choose")
    api.post("/experiments/spring/choose", {"subject_id": "u", "decision_id": "d"}, token=victim)
    email = shop.rewrite(thief, "d")
    assert (email["html"], email["headers"], email["unsubscribe_url"]) == (HTML, {}, None)
    assert [(row["id"], row["reason"]) for row in email["refused"]] == [("d", "another_key")]
    shop.visit(email)
    assert shop.events("d") == shop.unsubscribed() == []
    for honest in (victim, api.key("choose", "manage")):
        assert shop.rewrite(honest, "d")["links"] == 1


def test_links_of_a_test_key_lead_on_and_count_nothing(api, shop):
    """Before: the same for a key of which nothing is recorded."""
    api.choose(decision_id="d")
    keys = api.accounts.keys
    thief = keys.create("test", ("choose",), at=api.clock(), by="test", dry_run=True).token
    email = shop.rewrite(thief, "d")
    assert email["links"] == 1
    shop.visit(email)
    assert shop.store.spool.find(["d"]) == shop.events("d") == shop.unsubscribed() == []


def test_links_that_were_signed_for_one_key_are_voided_alone(api, shop):
    """Before: only together with every honest click of the tracking key."""
    first, second = api.key("choose"), api.key("choose")
    api.start("later", reward=RULE, await_activation=True)
    body = {"subject_id": "u", "decision_id": "d"}
    for token in (first, second):
        api.post("/experiments/later/choose", body, token=token)
    emails = [shop.rewrite(token, "d") for token in (first, second)]
    assert [email["links"] for email in emails] == [1, 1]  # the second was answered with it
    api.post("/decisions/activate", {"decision_ids": ["d"]}, token=first)

    def reward() -> float:
        api.engine.learn("later")
        return api.get("/decisions/d").json["reward"]

    def void(token: str) -> None:
        api.clock.now += 60.0
        key = api.accounts.keys.find(token, at=api.clock())
        actor = f"tracking:{shop.tracking_key.key_id}:{key.actor}"
        body = {"experiment": "later", "actor": actor, "since": FIRST}
        answer = api.post("/voids", body)
        assert answer.status_code == 200, answer.text
        assert [part["refused"] for part in answer.json["experiments"]] == [None]

    for email in emails:
        shop.visit(email)
    assert reward() == 1.0
    void(second)
    assert reward() == 1.0
    void(first)
    assert reward() == 0.0


def test_clicks_that_false_ones_set_aside_count_again_once_these_are_void(api, shop, clock):
    """Not prevented: who has links of their own reports hidden ones so. It is taken back whole."""
    api.start("judged", reward=RULE, machine_rules=1)
    thief = api.key("reward")
    api.choose(key="judged", decision_id="d")
    clock.now += 3600.0
    click = {"decision_id": "d", "metric": "click", "tracking": {"user_agent": BROWSER}}
    api.post("/rewards", {"rewards": [click | {"event_id": "honest"}]})
    false = click | {"event_id": "false", "value": 0, "tracking": {"honeypot": True}}
    assert api.post("/rewards", {"rewards": [false]}, token=thief).json["accepted"] == 1

    def reward() -> float:
        clock.now += 3600.0
        api.engine.learn("judged")
        return api.get("/decisions/d").json["reward"]

    assert reward() == 0.0
    key = api.accounts.keys.find(thief, at=api.clock())
    answer = api.post("/voids", {"experiment": "judged", "actor": key.actor, "since": FIRST})
    assert answer.status_code == 200, answer.text
    assert reward() == 1.0
