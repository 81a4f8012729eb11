"""Pages of voids: who did what, what a void takes, and its restoration."""

import pytest

from bandits.actors import actor_of
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from tests.integration.pages.conftest import FormReader


@pytest.fixture
def stolen(site):
    """A campaign in which a stolen key limited forty emails, and its actor."""
    site.make(holdout=0.0)
    key = site.accounts.keys.create("Old sender", ["choose"], at=site.clock(), by="anna").key
    site.send("sale", 40, lambda d: d.slots["content"]["variant"] == "hero")
    only = {"subject_line": ["a"]}
    requests = [Request(f"t-{i}", eligible=only) for i in range(40)]
    decisions = site.engine.choose("sale", requests, actor=key.actor)
    site.engine.reward([Reward(decisions[0].decision_id, "e", "click")], actor=key.actor)
    site.clock.now += 20.0
    site.engine.learn("sale")
    return key.actor


def test_health_names_the_key_and_links_to_its_void(site, admin, manager, stolen):
    requests = [Request(f"o-{i}") for i in range(600)]  # of another key, to compare with
    site.engine.choose("sale", requests, actor=actor_of("key", 9))
    only = {"subject_line": ["a"]}
    requests = [Request(f"p-{i}", eligible=only) for i in range(600)]
    site.engine.choose("sale", requests, actor=stolen)
    site.clock.now += 20.0
    site.engine.learn("sale")
    page = admin.get("/experiments/sale").text
    assert "The API key “Old sender” limits versions" in page
    assert 'href="/experiments/sale/voids?actor=key:1"' in page
    assert "Void what it did" not in manager.get("/experiments/sale").text
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    assert typed["actor"] == "key:1"
    assert typed["since"].startswith("2027-01-15T")


def test_void_is_shown_confirmed_and_restored(site, admin, stolen):
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    page = admin.post("/experiments/sale/voids/preview", typed).text
    assert "Void 40 emails and 1 event?" in page
    assert "the API key “Old sender”" in page
    assert site.engine.voids("sale") == []
    confirmed = FormReader(page, "until").fields
    done = admin.post("/experiments/sale/voids", confirmed, follow_redirects=True).text
    assert "40 emails and 1 event of the API key “Old sender” are void" in done
    assert "40 emails void" in admin.get("/experiments/sale").text
    assert "What a sender did voided" in admin.get("/experiments/sale/history").text
    (entry,) = site.engine.voids("sale")
    assert "Restore 40 emails?" in admin.get(f"/experiments/sale/voids/{entry.id}/restore").text
    again = admin.post(f"/experiments/sale/voids/{entry.id}/restore", follow_redirects=True).text
    assert "40 emails of the API key “Old sender” count again" in again
    assert "40 emails void" not in admin.get("/experiments/sale").text


def test_void_is_told_on_receipts_and_in_lists(site, admin, stolen):
    (chosen,) = site.engine.choose("sale", [Request("t-0", decision_id="t-0")], actor=stolen)
    (own,) = site.engine.choose("sale", [Request("h-0", decision_id="h-0")])
    for decision in (chosen, own):
        site.engine.reward([Reward(decision.decision_id, "e-1", "click")], actor=stolen)
    site.clock.now += 1.0
    deeds = Deeds(stolen, 0.0, site.clock.now)
    number = site.engine.void(deeds, by="key:1", experiment="sale").experiments[0].void
    page = admin.get("/decisions/t-0").text
    assert "This email is void and counts for nothing." in page
    assert "What the API key “Old sender” did from" in page
    assert "by the API key “Old sender”" in page
    assert "no: void" in page
    page = admin.get("/decisions/h-0").text
    assert "This email is void" not in page
    assert "no: void" in page
    listed = admin.get("/experiments/sale/decisions").text
    assert listed.count('<span class="tag">void</span>') == 41
    typed = admin.form("/decisions", "who") | {"who": "t-0"}
    assert admin.post("/decisions", typed).text.count('<span class="tag">void</span>') == 2
    site.clock.now += 1.0
    site.engine.choose("sale", [Request("o-0", decision_id="t-0")])
    page = admin.get("/decisions/t-0").text
    assert "This email is void" not in page
    former = next(d for d in site.engine.subject("t-0").decisions if d.former_id == "t-0")
    page = admin.get(f"/decisions/{former.decision_id}").text
    assert "a later email has it now" in page
    assert "recomputing gives the same choice" in page
    page = admin.get(f"/experiments/sale/voids/{number}/restore").text
    assert "1 email of these keeps a new id" in page
    done = admin.post(f"/experiments/sale/voids/{number}/restore", follow_redirects=True).text
    assert "1 email of these got new ids: later emails have theirs." in done


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": ""}, "choose whose emails and results are void"),
        ({"actor": "key:9"}, "nothing was done then, or it is void already"),
        ({"since": "soon"}, "enter a date and a time in UTC"),
        ({"until": "2099-01-01T00:00"}, "this is in the future"),
        ({"until": "2001-01-01T00:00"}, "enter a time later than the first"),
    ],
)
def test_field_that_does_not_fit_has_its_message(site, admin, stolen, changes, message):
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    answer = admin.post("/experiments/sale/voids/preview", typed | changes)
    assert answer.status_code == 422
    assert message in answer.text


def test_event_taken_back_is_told_on_receipts_and_counts_again_by_a_void(site, admin, stolen):
    (own,) = site.engine.choose("sale", [Request("h-0", decision_id="h-0")])
    site.engine.reward([Reward(own.decision_id, "e-1", "click")])
    site.engine.withdraw([Withdrawal("h-0", "e-1")], actor=stolen)
    assert "no: taken back" in admin.get("/decisions/h-0").text
    site.clock.now += 60.0
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    page = admin.post("/experiments/sale/voids/preview", typed).text
    assert "1 event of others that it took back counts again." in page
    confirmed = FormReader(page, "until").fields
    admin.post("/experiments/sale/voids", confirmed)
    assert "no: taken back" not in admin.get("/decisions/h-0").text


def test_void_of_a_final_result_is_refused_in_words(site, admin, stolen):
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    site.engine.stop("sale", by="anna@shop.example")
    site.clock.now += 1001.0
    answer = admin.post("/experiments/sale/voids/preview", typed)
    assert answer.status_code == 422
    assert "its result is final since" in answer.text


def test_form_that_is_not_complete_changes_nothing(site, admin, stolen):
    assert admin.post("/experiments/sale/voids", {"actor": "key:1"}).status_code == 422
    assert admin.get("/experiments/sale/voids/5/restore").status_code == 404
    assert site.engine.voids() == []
