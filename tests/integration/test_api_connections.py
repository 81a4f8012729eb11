"""Connections through the API: set up, read, changed, rotated, paused, deleted; refused events."""

import pytest

from tests.integration.conftest import NOW
from tests.webhook_senders import Mailer, sendgrid_event

BODY = {"kind": "sendgrid", "key": "mailer", "metrics": {"order": "buy"}}
SHOP = {"kind": "standard_webhooks", "key": "shop"}


@pytest.fixture
def sendgrid() -> Mailer:
    return Mailer()


@pytest.fixture
def mailer(api, sendgrid) -> dict:
    answer = api.post("/connections", BODY | {"values": sendgrid.values})
    assert answer.status_code == 201, answer.text
    return answer.json["connection"]


def test_connection_reads_back_without_its_secrets(api, mailer, sendgrid):
    assert (mailer["key"], mailer["kind"]) == ("mailer", "sendgrid")
    assert mailer["path"] == "/webhooks/sendgrid/mailer"
    assert (mailer["metrics"], mailer["paused"], mailer["encrypted"]) == (
        {"order": "buy"},
        False,
        False,
    )
    assert mailer["delivered_at"] is mailer["rejection"] is None
    assert api.get("/connections/mailer").json == mailer
    assert api.get("/connections").json == {"connections": [mailer]}
    assert sendgrid.values["verification_key"] not in api.get("/connections").text


def test_connection_excludes_bounces_only_if_it_is_said_and_until_it_is_said_again(api, mailer):
    assert mailer["excludes_bounces"] is False
    for body, expected in (
        ({"excludes_bounces": True}, True),
        ({"metrics": {"order": "buy"}}, True),  # as before
        ({"excludes_bounces": False}, False),
    ):
        changed = api.call("PUT", "/connections/mailer", body).json
        assert changed["excludes_bounces"] is expected
        assert api.get("/connections/mailer").json == changed
    made = api.post("/connections", SHOP | {"excludes_bounces": True})
    assert made.json["connection"]["excludes_bounces"] is True


def test_missing_secret_is_made_and_shown_once(api):
    made = api.post("/connections", SHOP)
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.json["generated"]["signing_secret"]
    assert secret.startswith("whsec_")
    assert secret not in api.get("/connections/shop").text
    rotated = api.post("/connections/shop/rotate", {"grace_seconds": 60})
    assert rotated.json["generated"]["signing_secret"] != secret
    assert rotated.json["connection"]["previous_until"] is not None
    given = api.post("/connections/shop/rotate", {"values": {"signing_secret": secret}})
    assert given.json["generated"] == {}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"key": "Mailer"}, "/key"),
        ({"key": "a/b"}, "/key"),
        ({"key": "a" * 41}, "/key"),
        ({"values": {}}, "/values/verification_key"),
        ({"values": {"verification_key": "x"}}, "/values/verification_key"),
        ({"values": {"verification_key": "x" * 5000}}, "/values/verification_key"),
        ({"values": {"password": "x"}}, "/values/password"),
        ({"metrics": {"order": "not a metric"}}, "/metrics/order"),
    ],
)
def test_value_that_does_not_fit_is_refused_at_its_place(api, problem, sendgrid, changed, place):
    answer = api.post("/connections", BODY | {"values": sendgrid.values} | changed)
    document = problem(answer, 422, "invalid")
    assert place in {fault["pointer"] for fault in document["errors"]}
    assert api.get("/connections").json == {"connections": []}


def test_unknown_kind_and_taken_key_are_told(api, problem, mailer, sendgrid):
    problem(api.post("/connections", BODY | {"kind": "pigeon"}), 404, "not-found")
    taken = api.post("/connections", BODY | {"values": sendgrid.values})
    problem(taken, 409, "already-exists")


def test_pause_change_and_delete(api, problem, mailer):
    assert api.post("/connections/mailer/pause").json["paused"] is True
    assert api.post("/connections/mailer/resume").json["paused"] is False
    changed = api.call("PUT", "/connections/mailer", {"metrics": {"click": "visit"}})
    assert changed.json["metrics"] == {"click": "visit"}
    assert api.call("DELETE", "/connections/mailer").status_code == 204
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/refused"),
        ("GET", "/refused/1"),
        ("POST", "/refused/1/replay"),
    ):
        problem(api.call(method, f"/connections/mailer{path}"), 404, "not-found")
    by = {change.by for change in api.accounts.changes(subject="connection:mailer")}
    assert all(author.startswith("key:") for author in by)


def test_refused_event_is_read_and_replayed_once_it_fits(api, problem, mailer, sendgrid):
    api.start()
    made = api.choose()["decision_id"]
    events = [sendgrid_event(made, "click", NOW + i, email="ann@shop.example") for i in (1, 2)]
    api.call("PUT", "/connections/mailer", {"metrics": {"click": "visit"}})
    body, headers = sendgrid.request(events, at=NOW)
    assert api.client.post(mailer["path"], data=body, headers=headers).status_code == 200
    first = api.get("/connections/mailer/refused?limit=1").json
    rest = api.get(f"/connections/mailer/refused?after={first['next']}").json
    (newest,), (oldest,) = first["refused"], rest["refused"]
    assert newest["content"] is None
    assert rest["next"] is None
    assert "unknown metric 'visit'" in newest["reason"]
    read = api.get(f"/connections/mailer/refused/{oldest['id']}")
    assert "ann@shop.example" in read.json["content"]
    assert read.headers["Cache-Control"] == "no-store"

    path = f"/connections/mailer/refused/{oldest['id']}/replay"
    still = api.post(path).json
    assert (still["recorded"], len(still["reasons"])) == (0, 1)
    api.call("PUT", "/connections/mailer", {"metrics": {}})
    problem(api.post(path), 404, "not-found")  # it came back under another number
    for refused in api.get("/connections/mailer/refused").json["refused"]:
        replayed = api.post(f"/connections/mailer/refused/{refused['id']}/replay").json
        assert (replayed["recorded"], replayed["reasons"]) == (1, [])
    assert api.get("/connections/mailer/refused").json == {"refused": [], "next": None}
    assert len(api.engine.store.log.events(made)) == 2


def test_subject_reads_and_erases_what_connections_keep(api, mailer, sendgrid):
    api.start()
    made = api.choose("u-1")["decision_id"]
    bad = sendgrid_event(made, "click", NOW, timestamp="?")
    waits = sendgrid_event("not-yet", "click", NOW, email="u-1")
    body, headers = sendgrid.request([bad, waits], at=NOW)
    assert api.client.post(mailer["path"], data=body, headers=headers).status_code == 200
    signals = api.get("/subjects/u-1").json["signals"]
    assert [s["connection"] for s in signals] == ["mailer"] * 2
    assert [s["reason"] is None for s in signals] == [True, False]
    assert api.post("/subjects/u-1/erase").json["signals"] == 2
    state = api.get("/connections/mailer").json
    assert state["unmatched"] == 0
    assert api.get("/connections/mailer/refused").json["refused"] == []
