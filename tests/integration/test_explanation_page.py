"""The page "Why do I get this?" as recipients, scanners and strangers meet it."""

import re

import pytest

from bandits.errors import Unavailable
from bandits.tracking_tokens import TokenKind, TrackingKey, TrackingToken
from tests.integration.conftest import NOW
from webapp.links.link_views import PUBLIC_URL

ROOT = "https://links.shop.example"
DAY = 86_400.0
SLOTS = [
    {
        "key": "subject",
        "kind": "subject_line",
        "name": "For those who nearly left",
        "variants": [
            {"key": "a", "name": "Guilt", "payload": {"text": "Still thinking <b>about</b> it?"}},
            {"key": "b", "payload": {"text": "Two days left"}},
        ],
    },
    {
        "key": "discount",
        "kind": "discount",
        "variants": [{"key": f"d{p}", "payload": {"percent": p}} for p in (0, 10, 20)],
    },
    {
        "key": "hero",
        "kind": "content",
        "variants": [{"key": "h", "name": "Hero of guilt", "payload": {"html": "<p>x"}}],
    },
]
CONTEXT = [
    {"name": "orders_90d", "kind": "number", "low": 0, "high": 10},
    {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
]


@pytest.fixture
def page(api):
    return ExplanationPage(api)


class ExplanationPage:
    """A campaign, a tracking key, and pages for the recipients of its emails."""

    def __init__(self, api) -> None:
        self.api = api
        self.links = api.app.extensions["bandits"].tracked_links
        self.links.set_hosts(["shop.example"], at=NOW, by="test")
        self.new = self.links.create("test", at=NOW, by="test")
        self.key = TrackingKey.parse(self.new.text)
        api.app.config[PUBLIC_URL] = ROOT

    def start(self, key="spring", **declared):
        options = {"slots": SLOTS, "context": CONTEXT, "policy": {"name": "lints"}} | declared
        self.api.start(key, **options)

    def choose(self, decision_id="d-1", key="spring", **options):
        options = {"context": {"orders_90d": 4, "channel": "Web"}} | options
        return self.api.choose("ann@shop.example", key, decision_id=decision_id, **options)

    def path(self, *ids, kind=TokenKind.EXPLANATION, key=None):
        return f"/w/{TrackingToken(kind, ids or ('d-1',)).sign(key or self.key)}"

    def get(self, *ids):
        """Read the page's text without markup, one blank between words."""
        answer = self.api.client.get(self.path(*ids))
        assert answer.status_code == 200, answer.text
        (main,) = re.findall(r"<main.*</main>", answer.text, re.DOTALL)
        return " ".join(re.sub(r"<[^>]+>", " ", main).split())

    def post(self, choice, *ids):
        return self.api.client.post(self.path(*ids), data={"opt_out": choice})


def test_page_says_what_was_chosen_how_and_from_which_data(page):
    page.start()
    made = page.choose()
    text = page.get()
    assert "Why do I get this?" in text
    percent = made["slots"]["discount"]["payload"]["percent"]
    assert f"Discount {f'{percent} %' if percent else 'none'} · one of 3" in text
    assert "Content the same for everyone" in text
    chance = f"{made['propensity'] * 100:.0f} %".lstrip()
    assert f"Your version had a chance of {chance} among 6 versions" in text
    assert "The choice depended on: orders 90d 4 channel Web" in text
    assert "(click, order)" in text


def test_page_has_no_ids_and_no_names_that_managers_gave(page):
    page.start(name="Win back the stingy")
    page.choose()
    html = page.api.client.get(page.path()).text
    assert "Still thinking &lt;b&gt;about&lt;/b&gt; it?" in html or "Two days left" in html
    for secret in (
        "d-1",
        "ann@shop.example",
        "Guilt",
        "Hero of",
        "nearly left",
        "stingy",
        "spring",
        "lints",
    ):
        assert secret not in html


def test_page_is_not_stored_not_listed_and_sets_no_cookie(page):
    page.start()
    page.choose()
    answer = page.api.client.get(page.path())
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert "Set-Cookie" not in answer.headers
    assert "<script" not in answer.text


@pytest.mark.parametrize(
    ("declared", "options", "sentence"),
    [
        ({"policy": {"name": "thompson_gaussian"}}, {}, "This is kept with the email: orders 90d"),
        ({}, {"personalize": False}, "None. The choice did not depend on who you are."),
        ({}, {"context": None}, "None. The choice did not depend on who you are."),
        ({"holdout": 0.5}, {}, "You are in a small group that gets the usual version."),
    ],
)
def test_page_says_where_no_data_was_used(page, declared, options, sentence):
    page.start(**declared)
    held_out = "holdout" in declared
    for i in range(40):
        made = page.api.choose(
            f"u-{i}",
            decision_id=f"d-{i}",
            **{"context": {"orders_90d": 4, "channel": "Web"}} | options,
        )
        if made["holdout"] == held_out:
            break
    text = page.get(f"d-{i}")
    assert sentence in text
    assert "The choice depended on" not in text


def test_page_after_the_winner_was_shipped(page):
    page.start()
    ship = {"subject": "a", "discount": "d10", "hero": "h"}
    assert page.api.post("/experiments/spring/stop", {"ship": ship}).status_code == 200
    page.choose()
    assert "Everyone gets this version now." in page.get()


def test_page_counts_what_was_noted_of_the_email(page):
    page.start()
    page.choose()
    rows = [{"decision_id": "d-1", "event_id": f"e{i}", "metric": "click"} for i in (1, 2)]
    page.api.post("/rewards", {"rewards": rows})
    assert "this was counted for this email: click (2)." in page.get()


def test_recipient_opts_out_by_post_alone_and_may_come_back(page):
    page.start()
    page.choose()
    assert "Don't use my data" in page.api.client.get(page.path()).text
    assert page.api.client.head(page.path()).status_code == 200
    page.choose("d-2")
    assert "The choice depended on" in page.get("d-2")
    assert "From now on, your data is not used" in page.post("yes").text
    page.choose("d-3")
    text = page.get("d-3")
    assert "None. The choice did not depend on who you are." in text
    assert "Your data is not used to choose emails for you." in text
    assert "Your data may be used again" in page.post("no", "d-3").text
    page.choose("d-4")
    assert "The choice depended on" in page.get("d-4")


def test_page_of_an_old_email_tells_nothing_of_its_recipient_and_lets_opt_out(page):
    page.start()
    page.choose()
    page.api.clock.now += 91 * DAY
    text = page.get()
    assert "This email is more than 90 days old." in text
    assert "orders" not in text
    assert "From now on" in page.post("yes").text


def test_page_of_an_erased_recipient_knows_nothing(page):
    page.start()
    page.choose()
    page.api.engine.erase("ann@shop.example", by="test")
    text = page.get()
    assert text == "Why do I get this? Nothing is stored about this email any more."
    assert page.post("yes").status_code == 200


def test_page_of_several_decisions_explains_each(page):
    page.start()
    page.start("summer")
    page.choose()
    page.choose("d-2", "summer")
    text = page.get("d-1", "d-2")
    assert text.count("How it was chosen") == 2
    assert text.count("Your choice") == 1


def test_token_that_is_forged_of_another_kind_or_of_a_revoked_key_explains_nothing(page):
    page.start()
    page.choose()
    stranger = TrackingKey.generate()
    forged = TrackingKey(page.key.id, stranger.secret)
    others = [kind for kind in TokenKind if kind is not TokenKind.EXPLANATION]
    bad = [page.path(key=stranger), page.path(key=forged), page.path()[:-1], "/w/", "/w/a.b.c"]
    bad += [page.path(kind=kind) for kind in others]
    good = page.path()
    for path in bad:
        for call in (page.api.client.get, page.api.client.post):
            answer = call(path)
            assert answer.status_code == 404, path
            assert "orders" not in answer.text
    assert page.api.client.get(good).status_code == 200
    page.links.revoke(page.new.key.id, at=NOW, by="test")
    page.api.app.extensions["bandits.link_reader"].ring.forget()
    page.api.app.extensions["bandits.link_reader"].ring._refresh()
    assert page.api.client.get(good).status_code == 404
    assert page.api.client.post(good, data={"opt_out": "yes"}).status_code == 404
    assert not page.api.engine.has_opted_out("d-1")


def test_link_comes_with_the_links_of_an_email(page):
    page.start()
    page.choose()
    body = {"html": "<p>Hello", "decision_ids": ["d-1"]}
    address = page.api.post("/tracking/rewrite", body).json["explanation_url"]
    assert address.startswith(f"{ROOT}/w/")
    assert "orders 90d" in page.api.client.get(address.removeprefix(ROOT)).text


def test_database_that_is_away_is_said_in_words(page, monkeypatch):
    page.start()
    page.choose()
    path = page.path()
    page.api.client.get(path)

    def refuse(*_, **__):
        raise Unavailable("away")

    monkeypatch.setattr(page.api.engine.store.database, "reading", refuse)
    answer = page.api.client.get(path)
    assert answer.status_code == 503
    assert "Please try again in a minute." in answer.text
