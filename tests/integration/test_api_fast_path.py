"""Fast path: it answers as Flask would."""

import io
import logging
from dataclasses import replace
from typing import get_args

import pytest

from bandits.errors import Unavailable
from policies.thompson_gaussian import ThompsonGaussian
from storage.accounts.roles import Scope
from tests.patience import LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE
from webapp.api.operation import PART, FastPath
from webapp.api.routes import every_operation
from webapp.app import create_app
from webapp.log_config import RequestFilter
from webapp.metrics import RequestMetrics
from webapp.services import services_of
from webapp.settings import Settings

CHOOSE = "/experiments/spring/choose"
CLICK = {"decision_id": "known", "event_id": "e", "metric": "click"}
VARYING = ("decision_id", "slots", "propensity", "request_id")
LONG = b'{"subject_id":"u"' + b" " * 10_000 + b"}"


FAST = [operation for _, operation in every_operation() if operation.fast]


@pytest.fixture
def slow(api):
    """Ask the same application by Flask alone, as a server does that logs every request."""
    settings = Settings(
        wait_seconds=LIMIT_SECONDS, secret_key="made up for a test, long enough", access_log=True
    )
    services = replace(services_of(api.app), metrics=RequestMetrics())
    quick, app = api.app, create_app(services, settings)

    def call(*parts, **named):
        api.client = app.test_client()
        try:
            return api.call(*parts, **named)
        finally:
            api.client = quick.test_client()

    call.metrics = services.metrics
    return call


def stable_parts(answer) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return an answer without the parts that differ from one decision to the next."""
    varying = {"X-Request-ID", "Content-Length", "RateLimit"}
    headers = {k: v for k, v in answer.headers if k not in varying}
    assert ("RateLimit" in answer.headers) == ("RateLimit-Policy" in headers)
    assert answer.headers["X-Request-ID"]
    assert answer.headers["Content-Length"] == str(len(answer.data))
    return answer.status, headers, {k: v for k, v in answer.json.items() if k not in VARYING}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"body": {"subject_id": "u", "context": {"recency": 3}}}, 201),
        ({"body": {"subject_id": "u", "eligible": {"subject_line": ["b"]}}}, 201),
        ({"body": {"subject_id": "u", "decision_id": "known"}}, 200),
        ({"body": {"subject_id": "other", "decision_id": "known"}}, 409),
        ({"body": {"subject_id": "u", "colour": 1}}, 422),
        ({"body": {"subject_id": "u", "context": {"recency": "three"}}}, 422),
        ({"raw": b'{"subject_id":"u","subject_id":"v"}'}, 422),
        ({"raw": b'{"subject_id":'}, 400),
        ({"raw": b"\xff"}, 400),
        ({"raw": b""}, 400),
        ({"raw": b'{"subject_id":"u","context":' + b"[" * 99 + b"]" * 99 + b"}"}, 400),
        ({"raw": LONG}, 201),
        ({"body": {"subject_id": "u"}, "token": "wrong"}, 401),
        ({"body": {"subject_id": "u"}, "headers": {"Authorization": ""}}, 401),
        ({"body": {"subject_id": "u"}, "path": "/experiments/lost/choose"}, 404),
        ({"body": {"subject_id": "u"}, "path": "/experiments/draft/choose"}, 409),
        ({"body": {"subject_id": "u"}, "path": "/experiments/+/choose"}, 404),
        ({"body": {"subject_id": "u"}, "path": f"{CHOOSE}?colour=1"}, 422),
        ({"body": {"subject_id": "u"}, "content_type": "text/plain"}, 415),
        ({"body": {"subject_id": "u"}, "content_type": "application/json; charset=utf-8"}, 201),
        ({"body": {"subject_id": "u"}, "headers": {"Content-Encoding": "gzip"}}, 415),
        ({"method": "PUT", "body": {"subject_id": "u"}}, 405),
    ],
)
def test_fast_path_decisions_equal_those_of_flask(api, slow, change, status) -> None:
    api.start()
    api.create("draft")
    api.choose("u", decision_id="known")
    request = {"method": "POST", "path": CHOOSE} | change
    quick, full = api.call(**request), slow(**request)
    assert quick.status_code == status
    assert stable_parts(quick) == stable_parts(full)


@pytest.mark.parametrize(
    ("rewards", "status"),
    [
        ([CLICK], 200),
        ([CLICK, CLICK, CLICK | {"decision_id": "lost"}], 200),
        ([CLICK | {"event_id": "known"}], 200),
        ([CLICK | {"event_id": "known", "value": 0.5}], 409),
        ([CLICK | {"occurred_at": "2020-01-01T00:00:00Z"}], 200),
        ([CLICK | {"occurred_at": "2020-01-01T00:00:00"}], 422),
        ([CLICK | {"occurred_at": "2100-01-01T00:00:00Z"}], 200),
        ([CLICK, CLICK | {"metric": "opne"}, CLICK | {"value": 7}], 422),
        ([CLICK | {"event_id": "an event"}], 422),
        ([], 200),
        ({}, 422),
    ],
)
def test_fast_path_reward_receipts_equal_those_of_flask(api, slow, rewards, status) -> None:
    api.start()
    api.choose("u", decision_id="known")
    api.choose("v", decision_id="other")
    for name in ("known", "other"):
        click = CLICK | {"decision_id": name, "event_id": "known"}
        assert api.post("/rewards", {"rewards": [click]}).json["accepted"] == 1
    quick = api.post("/rewards", {"rewards": rewards})
    if rewards:  # of another decision: an event that comes twice has another outcome
        rewards = [r | {"decision_id": r["decision_id"].replace("known", "other")} for r in rewards]
    full = slow("POST", "/rewards", {"rewards": rewards})
    assert quick.status_code == status
    assert for_other_decision(stable_parts(quick)) == stable_parts(full)


def for_other_decision(answer):
    """Return an answer with the id of the other decision."""
    status, headers, content = answer
    early = ["other" if i == "known" else i for i in content.get("early", ())]
    return status, headers, content | ({"early": early} if early else {})


@pytest.mark.parametrize(
    ("path", "body", "scopes"),
    [
        (CHOOSE, {"subject_id": "u"}, ("read", "reward")),
        ("/rewards", {"rewards": []}, ("read", "choose")),
    ],
)
def test_a_key_without_the_scope_is_refused_and_told_which(api, slow, path, body, scopes) -> None:
    api.start()
    token = api.key(*scopes)
    quick, full = api.post(path, body, token=token), slow("POST", path, body, token=token)
    assert quick.status_code == 403
    scope = {"choose", "reward"}.difference(scopes).pop()
    assert f'scope="{scope}"' in quick.headers["WWW-Authenticate"]
    assert stable_parts(quick) == stable_parts(full)


def test_the_callers_request_id_comes_back(api) -> None:
    api.start()
    for body, status in (({"subject_id": "u"}, 201), ({}, 422)):
        answer = api.post(CHOOSE, body, headers={"X-Request-ID": "mine-1"})
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "mine-1")


def test_a_policy_that_fails_is_logged_with_the_request_it_failed_for(
    api, slow, monkeypatch, caplog
) -> None:
    def broken(*_):
        raise ArithmeticError("cold")

    api.start()
    monkeypatch.setattr(ThompsonGaussian, "propensities", broken)
    monkeypatch.setattr(caplog.handler, "filters", [RequestFilter()])
    ids = []
    for call in (api.call, slow):
        for extra in ({}, {"headers": {"X-Request-ID": "mine-1"}}):
            answer = call("POST", CHOOSE, {"subject_id": "u"}, **extra)
            assert (answer.status_code, answer.json["fallback"]) == (201, True)
            ids.append(answer.headers["X-Request-ID"])
    records = [r for r in caplog.records if "answering the control" in r.message]
    assert [r.request_id for r in records] == ids
    assert {(r.route, r.method, r.experiment) for r in records} == {
        ("/api/v1/experiments/<key:key>/choose", "POST", "spring")
    }
    caplog.clear()
    logging.getLogger("bandits").warning("of no request")
    assert not hasattr(caplog.records[0], "request_id")


def test_log_records_of_rewards_name_no_experiment(api, monkeypatch, caplog) -> None:
    def warn(_asked, **_options):
        logging.getLogger("bandits").warning("looking")
        raise Unavailable("away")

    monkeypatch.setattr(caplog.handler, "filters", [RequestFilter()])
    monkeypatch.setattr(services_of(api.app).engine, "reward", warn)
    assert api.post("/rewards", {"rewards": []}).status_code == 503
    (record,) = [r for r in caplog.records if r.message == "looking"]
    assert (record.route, record.method) == ("/api/v1/rewards", "POST")
    assert not hasattr(record, "experiment")


def test_request_metrics_count_the_fast_path_too(api) -> None:
    api.start()
    for subject in ("u", "v", ""):
        api.post(CHOOSE, {"subject_id": subject})
    read = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.token}"}).text
    route = 'route="/api/v1/experiments/<key:key>/choose"'
    counts = [
        line.rpartition(" ")[2]
        for line in read.splitlines()
        if line.startswith("bandits_requests_total") and route in line
    ]
    assert counts == ["2", "1"]  # 201 and 422
    assert 'bandits_decisions_total{experiment="spring",outcome="new"' in read


def test_reward_metrics_count_the_fast_path_too(api, slow) -> None:
    api.start()
    api.choose("u", decision_id="known")
    for i, call in enumerate((api.call, slow)):
        events = [CLICK | {"event_id": f"e{i}"}, CLICK | {"decision_id": "lost"}]
        assert call("POST", "/rewards", {"rewards": events}).status_code == 200
    read = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.token}"}).text
    lines = read.splitlines()
    requests = [n for n in lines if n.startswith("bandits_requests_total{") and "/rewards" in n]
    assert [line.rpartition(" ")[2] for line in requests] == ["1"]  # the slow one has its own
    for outcome in ("accepted", "unknown"):
        (line,) = (n for n in lines if f'rewards_total{{outcome="{outcome}"' in n)
        assert line.endswith(" 1")


@pytest.mark.parametrize(
    ("changed", "passed_on"),
    [
        ({}, False),
        ({"PATH_INFO": "/api/v1/experiments/spring/choose/batch"}, True),
        ({"PATH_INFO": "/api/v1/experiments/spring/choose\n"}, True),
        ({"PATH_INFO": "/api/v1/rewards/"}, True),
        ({"REQUEST_METHOD": "GET"}, True),
        ({"CONTENT_TYPE": "text/plain"}, True),
        ({"CONTENT_LENGTH": ""}, True),
        ({"CONTENT_LENGTH": "-1"}, True),
        ({"CONTENT_LENGTH": "²"}, True),
        ({"CONTENT_LENGTH": "10001"}, True),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, True),
        ({"HTTP_CONTENT_ENCODING": "br"}, True),
        ({"HTTP_IDEMPOTENCY_KEY": "k"}, True),
        ({"QUERY_STRING": "a=1"}, True),
        ({"HTTP_AUTHORIZATION": "Bearer wrong"}, True),
    ],
)
def test_fast_path_takes_only_plain_requests(api, changed, passed_on) -> None:
    api.start()
    body = b'{"subject_id":"u"}'
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/api/v1{CHOOSE}",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": f"Bearer {api.token}",
        "wsgi.input": io.BytesIO(body),
    }
    reached = []

    def flask(environ, _start_response):
        reached.append(environ)
        return []

    express = FastPath(api.app, flask, every_operation())
    express(environ | changed, lambda _status, _headers: None)
    assert bool(reached) == passed_on


def request_of(operation) -> dict[str, object]:
    """Write a request of an operation as its OpenAPI document shows it."""
    path = PART.sub(lambda part: {"key": EXAMPLE["key"]}[part["name"]], operation.path)
    return {"method": operation.method, "path": path, "body": operation.body.example}


def counts(metrics, operation) -> list[str]:
    """List the counts of an operation's requests, and of decisions and rewards."""
    families = ("bandits_requests_total", "bandits_request_seconds_count", "bandits_decisions")
    lines = [line for line in metrics.lines() if line.startswith((*families, "bandits_rewards"))]
    return [line for line in lines if "route" not in line or f'{operation.path}"' in line]


@pytest.mark.parametrize("operation", FAST, ids=lambda operation: operation.name)
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, None),
        ({"headers": {"X-Request-ID": "ours-1"}}, None),
        ({"content_type": "application/json; charset=utf-8"}, None),
        ({"token": "wrong"}, 401),
        ({"headers": {"Authorization": "Basic YTpi"}}, 401),
        ({"token": None}, 403),
        ({"query": "?colour=1"}, 422),
        ({"content_type": "text/plain"}, 415),
        ({"headers": {"Content-Encoding": "gzip"}}, 415),
        ({"body": {"colour": 1}}, 422),
        ({"body": None, "raw": b'{"a":1,"a":2}'}, 422),
        ({"body": None, "raw": b"{"}, 400),
        ({"body": None, "raw": b""}, 400),
        ({"body": None, "raw": b"\xff"}, 400),
    ],
)
def test_fast_operation_is_the_same_by_both_ways(api, slow, operation, change, status) -> None:
    api.post("/experiments", EXAMPLE)
    api.post(f"/experiments/{EXAMPLE['key']}/start")
    request = request_of(operation) | change
    request["path"] += request.pop("query", "")
    if "token" in change and change["token"] is None:
        request["token"] = api.key(*{*get_args(Scope)} - {operation.scope})
    quick, full = api.call(**request), slow(**request)
    assert stable_parts(quick) == stable_parts(full)
    assert quick.status_code == status or (status is None and full.status_code in operation.answers)
    quick_counts = counts(services_of(api.app).metrics, operation)
    assert quick_counts == counts(slow.metrics, operation)
    assert any(line.endswith(" 1") for line in quick_counts)


@pytest.mark.parametrize("operation", FAST, ids=lambda operation: operation.name)
def test_fast_operation_logs_the_same_by_both_ways(
    api, slow, monkeypatch, caplog, operation
) -> None:
    decode = operation.body.decode

    def log_and_decode(text):
        logging.getLogger("bandits").warning("decoding")
        return decode(text)

    def fail(_text):
        raise ArithmeticError("cold")

    monkeypatch.setattr(caplog.handler, "filters", [RequestFilter()])
    request = request_of(operation) | {"headers": {"X-Request-ID": "ours-1"}}
    for function, status in ((log_and_decode, None), (fail, 500)):
        monkeypatch.setattr(operation.body, "decode", function)
        caplog.clear()
        answers = api.call(**request), slow(**request)
        assert status is None or [a.status_code for a in answers] == [status, status]
        quick, full = [r for r in caplog.records if r.name != "bandits.access"]
        fields = ("name", "levelname", "msg", "args", "request_id", "route", "method", "key")
        for field in (*fields, "experiment"):
            assert getattr(quick, field, None) == getattr(full, field, None), field
        assert quick.route == f"/api/v1{operation.path}"
        assert quick.key


@pytest.mark.parametrize("operation", FAST, ids=lambda operation: operation.name)
def test_fast_operation_passes_flask_by(api, monkeypatch, operation) -> None:
    def flask(_environ, _start_response):
        raise AssertionError("handed on")

    api.post("/experiments", EXAMPLE)
    api.post(f"/experiments/{EXAMPLE['key']}/start")
    fast_path = FastPath(api.app, flask, every_operation())
    monkeypatch.setattr(api.app, "wsgi_app", fast_path)
    assert api.call(**request_of(operation)).status_code in operation.answers
