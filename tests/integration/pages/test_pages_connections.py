"""Pages of connections: added by kind, tested, rotated, paused, deleted; refused events."""

import re

import pytest
from markupsafe import escape

from bandits.schemas import Request
from tests.integration.pages.conftest import NOW
from tests.senders import STRANGER
from tests.webhook_senders import Mailer, sendgrid_event
from webapp.signals.kind_registry import connection_kinds

NEW = "/settings/connections/new/sendgrid"
MAILER = "/settings/connections/mailer"


@pytest.fixture
def sendgrid() -> Mailer:
    return Mailer()


@pytest.fixture
def typed(sendgrid, password) -> dict[str, str]:
    values = {f"value-{name}": value for name, value in sendgrid.values.items()}
    return {"key": "mailer", "metrics": "order = buy", "password": password} | values


@pytest.fixture
def mailer(admin, typed):
    answer = admin.post(NEW, typed)
    assert answer.status_code == 200, answer.text
    return answer


def deliver(site, sendgrid, *events):
    body, headers = sendgrid.request(events, at=NOW)
    return site.app.test_client().post("/webhooks/sendgrid/mailer", data=body, headers=headers)


def test_every_kind_has_a_form_with_its_fields(admin):
    listed = admin.get("/settings/connections").text
    for kind in connection_kinds().values():
        assert f"/settings/connections/new/{kind.name}" in listed
        form = admin.get(f"/settings/connections/new/{kind.name}").text
        assert f"http://localhost/webhooks/{kind.name}/NAME" in form
        for field in kind.fields:
            assert f'name="value-{field.name}"' in form
            secret = re.search(rf'name="value-{field.name}" type="password"', form)
            assert bool(secret) == field.secret


def test_connection_is_added_and_never_shows_its_secret(site, admin, mailer, typed):
    assert "http://localhost/webhooks/sendgrid/mailer" in mailer.text
    found = site.store.connections.find("mailer")
    assert (found.kind, found.metrics, found.created_by) == (
        "sendgrid",
        {"order": "buy"},
        admin.email,
    )
    for path in ("/settings/connections", MAILER, f"{MAILER}/test", f"{MAILER}/rotate"):
        assert typed["value-verification_key"] not in admin.get(path).text
    assert "order = buy" in admin.get(MAILER).text
    assert "stored unencrypted" in admin.get(MAILER).text


def test_secret_that_we_make_is_shown_once(admin, password):
    path = "/settings/connections/new/standard_webhooks"
    answer = admin.post(path, {"key": "shop", "password": password})
    secret = re.search(r'id="secret-signing_secret">([^<]+)<', answer.text)[1]
    assert secret.startswith("whsec_")
    assert secret not in admin.get("/settings/connections/shop").text


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"key": "No Spaces"}, "key-error"),
        ({"key": ""}, "key-error"),
        ({"value-verification_key": ""}, "error-verification_key"),
        ({"value-verification_key": "x"}, "error-verification_key"),
        ({"metrics": "order"}, "metrics-error"),
        ({"metrics": "order = not a name"}, "metrics-error"),
        ({"password": "wrong"}, "password-error"),
    ],
)
def test_value_that_does_not_fit_is_told_beside_its_field(site, admin, typed, changed, place):
    answer = admin.post(NEW, typed | changed)
    assert answer.status_code == 422
    assert f'id="{place}"' in answer.text
    assert site.store.connections.all() == []
    kept = (typed | changed)["metrics"]
    assert kept in answer.text
    assert typed["value-verification_key"] not in answer.text  # a secret is typed again


def test_key_that_is_taken_is_told(admin, mailer, typed):
    assert "another connection has this name" in admin.post(NEW, typed).text


def test_test_page_tells_what_arrived(site, admin, mailer, sendgrid):
    page = admin.get(f"{MAILER}/test").text
    assert "Nothing has arrived yet" in page
    assert "not encrypted" in page
    deliver(site, Mailer(number=STRANGER))
    assert "The last delivery was refused: signature wrong" in admin.get(f"{MAILER}/test").text
    deliver(site, sendgrid, sendgrid_event(None, "click", NOW))
    site.clock.now += 1
    page = admin.get(f"{MAILER}/test").text
    assert "No event has named a decision yet" in page
    deliver(site, sendgrid, sendgrid_event("d-1", "click", NOW))
    page = admin.get(f"{MAILER}/test").text
    assert "Events name decisions of ours" in page
    assert "It works" not in page  # it waits for its decision


def test_test_page_tells_that_the_first_event_counted(site, admin, mailer, sendgrid):
    decision_id = site.engine.choose(site.make(), [Request("u-1")])[0].decision_id
    deliver(site, sendgrid, sendgrid_event(decision_id, "click", site.clock()))
    site.clock.now += 1
    page = admin.get(f"{MAILER}/test").text
    assert "It works" in page
    assert "1 event counted" in page


def test_connection_shows_its_steps_first_until_something_arrives(site, admin, mailer, sendgrid):
    before = admin.get(MAILER).text
    assert before.index("At SendGrid") < before.index("<h2>State</h2>")
    deliver(site, sendgrid, sendgrid_event(None, "click", NOW))
    site.clock.now += 2
    after = admin.get(MAILER).text
    assert after.index("At SendGrid") > after.index("<h2>State</h2>")


def test_connection_shows_the_send_call_of_its_mailer(admin, mailer):
    assert str(escape(connection_kinds()["sendgrid"].sample.text)) in admin.get(MAILER).text


def test_pause_resume_and_settings(site, admin, mailer):
    answer = admin.post(f"{MAILER}/pause", follow_redirects=True)
    assert "Events are not taken while this is paused" in answer.text
    assert "takes events again" in admin.post(f"{MAILER}/resume", follow_redirects=True).text
    admin.post(MAILER, {"metrics": "click: visit\n\n"})
    assert site.store.connections.find("mailer").metrics == {"click": "visit"}
    refused = admin.post(MAILER, {"metrics": "click visit"})
    assert (refused.status_code, "click visit" in refused.text) == (422, True)


def test_page_warns_that_leaving_bounces_out_biases_and_changes_it(site, admin, mailer, typed):
    page = admin.get(MAILER).text
    assert "the comparison is biased" in page
    assert "checked" not in page
    assert "the comparison is biased" in admin.get(NEW).text
    admin.post(MAILER, {"metrics": "", "excludes_bounces": "on"})
    assert site.store.connections.find("mailer").excludes_bounces
    assert 'id="excludes_bounces"' in (page := admin.get(MAILER).text)
    assert "checked" in page
    refused = admin.post(MAILER, {"metrics": "click visit"})
    assert "checked" not in refused.text, "as it was typed"
    admin.post(MAILER, {"metrics": ""})
    assert not site.store.connections.find("mailer").excludes_bounces
    added = typed | {"key": "other", "excludes_bounces": "on"}
    assert admin.post("/settings/connections/new/sendgrid", added).status_code == 200
    assert site.store.connections.find("other").excludes_bounces
    noted = [change.after for change in site.store.accounts.changes(subject="connection:mailer")]
    values = [after["excludes_bounces"] for after in noted if "excludes_bounces" in after]
    assert sorted(values) == [False, True]
    (change,) = site.store.accounts.changes(subject="connection:other")
    assert change.after["excludes_bounces"] is True


def test_rotation_needs_the_password_and_keeps_the_old_secret(site, admin, mailer, password):
    fresh = Mailer(number=STRANGER).values["verification_key"]
    sent = {"value-verification_key": fresh, "grace": "3600"}
    assert admin.post(f"{MAILER}/rotate", sent | {"password": "no"}).status_code == 422
    assert admin.post(f"{MAILER}/rotate", {"password": password}).status_code == 422
    answer = admin.post(f"{MAILER}/rotate", sent | {"password": password})
    assert answer.status_code == 200
    assert fresh not in answer.text
    assert site.store.connections.find("mailer").previous_until == site.clock() + 3600
    assert "the previous ones work until" in admin.get(MAILER).text


def test_delete_asks_first(site, admin, mailer):
    assert "This cannot be undone" in admin.get(f"{MAILER}/delete").text
    assert site.store.connections.find("mailer")
    assert "is deleted" in admin.post(f"{MAILER}/delete", follow_redirects=True).text
    assert site.store.connections.all() == []
    assert admin.get(MAILER).status_code == 404


def test_event_that_did_not_fit_is_shown_escaped_and_taken_again(site, admin, mailer, sendgrid):
    site.make()
    (decision,) = site.send("sale", 1)
    hostile = sendgrid_event(
        decision.decision_id, "click", site.clock(), url="</pre><script>alert(1)</script>"
    )
    admin.post(MAILER, {"metrics": "click = visit"})
    deliver(site, sendgrid, hostile)
    page = admin.get(MAILER).text
    assert "unknown metric &#39;visit&#39;" in page
    address = re.search(r'href="([^"]+/refused/\d+)"', page)[1]
    shown = admin.get(address).text
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown
    again = admin.post(f"{address}/replay", follow_redirects=True).text
    assert "It still does not fit" in again
    admin.post(MAILER, {"metrics": ""})
    address = re.search(r'href="([^"]+/refused/\d+)"', admin.get(MAILER).text)[1]
    assert "The event is counted" in admin.post(f"{address}/replay", follow_redirects=True).text
    gone = admin.post(f"{address}/replay", follow_redirects=True).text
    assert "This event is gone" in gone


def test_audit_log_lists_connections(admin, mailer):
    page = admin.get("/settings/audit-log?kind=connection").text
    assert "mailer" in page
