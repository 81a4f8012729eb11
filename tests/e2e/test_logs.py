"""What is private reaches no log and no database file: of a real server that logs all it can."""

import json
import re
import sqlite3
from urllib.parse import quote

import httpx

from tests.patience import LIMIT_SECONDS, wait_until
from webapp.api.experiments import EXAMPLE

SUBJECT = "zoe.quist@private.example"
DECISION = f"mail-7/{SUBJECT}"  # as a sender may make it: so no log may tell decision ids either
EMAIL, PASSWORD, WRONG = "ann@shop.example", "nine tame owls in a row", "eight tame owls in a row"
STRAY = "bandits_0123456789ab_sent-by-somebody-who-mistook-it"
KEY = "/api/v1/experiments/spring"


def signed_in(url: str) -> list[str]:
    """Sign in to the pages, once with a wrong password; return the secrets that came of it."""
    with httpx.Client(base_url=url, follow_redirects=False, timeout=LIMIT_SECONDS) as browser:
        for password in (WRONG, PASSWORD):
            form = browser.get("/sign-in").text
            found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', form)
            assert found
            sent = {"csrf_token": found[1], "email": EMAIL, "password": password}
            answer = browser.post("/sign-in", data=sent)
        assert answer.status_code == 302, answer.text
        asked = browser.get("/decisions", params={"id": DECISION})
        assert asked.status_code == 302
        assert browser.get(asked.headers["Location"]).status_code == 200
        return [found[1], *browser.cookies.values()]


def used(api: httpx.Client) -> None:
    """Do what is done with recipients, well and badly."""
    at = quote(SUBJECT, safe="")
    body = {"subject_id": SUBJECT, "decision_id": DECISION, "context": {"recency": 3}}
    assert api.post("/api/v1/experiments", json=EXAMPLE).status_code == 201
    assert api.post(f"{KEY}/start").status_code == 200
    assert api.post(f"{KEY}/choose", json=body).status_code == 201
    assert api.post(f"{KEY}/choose", json=body | {"context": {}}).status_code == 409
    assert api.post(f"{KEY}/choose", json=body | {"colour": SUBJECT}).status_code == 422
    assert api.post(f"{KEY}/choose/batch", json={"requests": [body]}).status_code == 200
    event = {"decision_id": DECISION, "event_id": "e", "metric": "click"}
    assert api.post("/api/v1/rewards", json={"rewards": [event]}).status_code == 200
    assert api.get(f"/api/v1/decisions/{DECISION}").status_code == 200
    assert api.get(f"/api/v1/subjects/{at}").status_code == 200
    assert api.get(f"/api/v1/subjects/{at}", params={"who": SUBJECT}).status_code == 422
    assert api.put(f"/api/v1/subjects/{at}").status_code == 405
    assert api.get(f"/api/v1/subject/{at}").status_code == 404
    assert api.get("/api/v1/keys", headers={"Authorization": f"Bearer {STRAY}"}).status_code == 401
    assert api.get("/api/v1/keys", params={"token": STRAY}).status_code == 422
    assert api.post(f"/api/v1/subjects/other-{at}/erase").status_code == 200


def failed(api: httpx.Client, database) -> None:
    """Let the database refuse: what a driver says then has the values of the statement in it."""
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE decisions RENAME TO lost")
    connection.close()
    body = {"subject_id": SUBJECT, "decision_id": f"{DECISION}-again"}
    refused = api.post(f"{KEY}/choose", json=body, headers={"X-Request-ID": "refused"})
    assert refused.status_code == 503
    assert api.get(f"/api/v1/decisions/{DECISION}").status_code == 503


def traced(log: list[dict]) -> None:
    """Check that the log tells all of a request that it may."""
    requests = [e for e in log if e["logger"] == "bandits.access"]
    assert len(requests) >= 20
    for entry in requests:
        assert {"time", "level", "request_id", "route", "method", "status"} <= set(entry)
        assert entry["milliseconds"] >= 0
        assert entry["message"] == f"{entry['method']} {entry['route']} {entry['status']}"
    (chosen,) = [e for e in requests if e["status"] == 201 and e["route"].endswith("/choose")]
    assert chosen["experiment"] == "spring"
    assert chosen["key"] == 1
    assert {e["status"] for e in requests if e["route"] == "none"} == {404, 405}
    assert any(e["message"].startswith("learned version") for e in log)  # so debug it was
    (refused,) = [e for e in log if e.get("request_id") == "refused" and "failed" in e["message"]]
    assert "no such table: decisions" in refused["message"]
    assert "traceback" not in refused
    assert refused["level"] == "error"
    assert refused["experiment"] == "spring"


def test_ids_tokens_and_passwords_reach_no_log_and_no_subject_or_token_the_database(
    start_server,
) -> None:
    server = start_server("--log-format", "json", "--access-log", "--log-level", "debug")
    add = ("user", "add", EMAIL, "--role", "admin", "--password-stdin")
    server.bandits(*add, typed=f"{PASSWORD}\n")
    with server.client() as api:
        used(api)
        cookies = signed_in(server.url)
        wait_until(server.log.read_text, "fold in the log", lambda log: "learned version" in log)
        files = [server.database, server.database.with_name("bandits.db-wal")]
        beside = b"".join(f.read_bytes() for f in files)
        failed(api, server.database)
    assert server.stop() == 0
    text = server.log.read_text()
    traced([json.loads(line) for line in text.splitlines()])

    tokens = [server.token[-20:], STRAY[-20:], *cookies]
    told = [word for word in (SUBJECT, "zoe.quist", PASSWORD, WRONG, *tokens) if word in text]
    assert told == []

    data = beside + server.database.read_bytes()
    assert b"subject_line" in data  # what is stored plain is found like this
    assert DECISION.encode() in data  # the sender's own id, made of its subject's at its own risk
    data = data.replace(DECISION.encode(), b"")
    secret = (SUBJECT, "zoe.quist", PASSWORD, WRONG, *tokens)
    assert [word for word in secret if word.encode() in data] == []
