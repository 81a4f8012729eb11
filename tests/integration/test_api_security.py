"""Attacks on the server that no other test tries: none gets through, and none breaks it.

Keys and scopes: `test_api_keys.py`; malformed and too large bodies: `test_api_bad_input.py`.
"""

import gzip
import re
import sqlite3
import zlib

import pytest
from sqlalchemy import inspect

from webapp.api.routes import every_operation

INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE decisions; --",
    '" OR ""="',
    "%' UNION SELECT token FROM api_keys --",
    "u\\'); DELETE FROM events; --",
]
HEADERS = ["a\r\nSet-Cookie: stolen=1", "a\nX-Injected: 1", "a\rX-Injected: 1", "a\x00b"]
BODIES = [(prefix + o.path, o) for prefix, o in every_operation() if o.body is not None]


@pytest.fixture(scope="module")
def api(make_api):
    """One API with an experiment that runs."""
    with make_api() as new_api:
        new_api.start()
        new_api.choose("u-1", decision_id="d-1")
        yield new_api


def open_as_admin(api, path: str, method: str, **options):
    """Call any address of the server with a key that may do everything."""
    headers = {"Authorization": f"Bearer {api.token}"} | options.pop("headers", {})
    return api.client.open(path, method=method, headers=headers, **options)


def routes(api) -> list[tuple[str, str]]:
    """List a method and an address of every route, pages and assets included."""
    parts = {"key": "spring", "decision_id": "d-1", "subject_id": "u-1", "name": "invalid"}
    addresses = []
    for rule in api.app.url_map.iter_rules():
        address = api.app.url_map.bind("localhost")
        arguments = {a: parts.get(a, 1) for a in rule.arguments}
        try:
            path = address.build(rule.endpoint, arguments, force_external=False)
        except Exception:  # noqa: BLE001 - a part that takes other words: the raw rule will do
            path = rule.rule
        addresses += [(method, path) for method in sorted((rule.methods or set()) - {"OPTIONS"})]
    return addresses


@pytest.mark.parametrize("word", INJECTIONS)
def test_sql_in_an_id_is_an_id_and_nothing_else(api, word) -> None:
    with api.engine.store.database.reading() as transaction:
        tables = set(inspect(transaction.connection).get_table_names())
    api.choose(word)
    response = api.get("/subjects/" + word.replace("%", "%25").replace("\\", "%5C"))
    assert [d["experiment"] for d in response.json["decisions"]] == ["spring"]
    nobody = api.get("/subjects/" + (word + "x").replace("%", "%25").replace("\\", "%5C"))
    assert nobody.json["decisions"] == []
    event = {"decision_id": "d-1", "event_id": "e", "metric": word}
    assert api.post("/rewards", {"rewards": [event]}).status_code == 422
    assert api.get("/experiments", headers={"Authorization": f"Bearer {word}"}).status_code == 401
    for query in ("state", "after", "limit"):
        refused = api.client.get(
            "/api/v1/experiments",
            query_string={query: word},
            headers={"Authorization": f"Bearer {api.token}"},
        )
        assert refused.status_code == 422, query
    with api.engine.store.database.reading() as transaction:
        assert set(inspect(transaction.connection).get_table_names()) == tables
    assert api.get("/decisions/d-1").status_code == 200


@pytest.mark.parametrize("word", HEADERS)
def test_a_line_break_in_an_id_reaches_no_header(api, word) -> None:
    escaped = word.replace("\r", "%0D").replace("\n", "%0A").replace("\x00", "%00")
    answers = [
        api.post("/experiments/spring/choose", {"subject_id": "u", "decision_id": word}),
        api.post("/experiments", {"key": word}),
        api.get(f"/decisions/{escaped}"),
        api.get(f"/subjects/{escaped}"),
        api.get(f"/experiments/{escaped}"),
        api.client.get(f"/experiments/{escaped}/results.csv"),
        api.client.get(f"/sign-in?next={escaped}"),
    ]
    for answer in answers:
        assert answer.status_code < 500
        assert "X-Injected" not in answer.headers
        assert "stolen" not in str(answer.headers)
        assert not any("\r" in v or "\n" in v for _, v in answer.headers)


@pytest.mark.parametrize("sent_id", ["", "a b", "x" * 65, "a;b", "<script>", "é", "a%0d%0ab"])
def test_a_request_id_that_is_not_sound_is_replaced(api, sent_id) -> None:
    raw = sent_id.encode().decode("latin-1")
    answer = api.client.get("/healthz", headers={"X-Request-ID": raw})
    assert answer.headers["X-Request-ID"] != raw
    assert answer.headers["X-Request-ID"].isalnum()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-gzip"])
def test_a_compressed_body_is_refused_and_never_unpacked(api, coding) -> None:
    bomb = gzip.compress(b"{" * 10**6) if "gzip" in coding else zlib.compress(b"{" * 10**6)
    for rule, operation in BODIES:
        answer = open_as_admin(
            api,
            re.sub(r"<int.*?>", "1", re.sub(r"<key:.*?>", "spring", rule)),
            operation.method,
            data=bomb,
            content_type=operation.body.media_types[0],
            headers={"Content-Encoding": coding},
        )
        assert answer.status_code == 415, rule
        assert answer.json["detail"] == "compressed bodies are not taken"


def test_no_route_lets_another_site_read_or_call_it(api) -> None:
    request_headers = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    every = routes(api)
    assert len(every) > 80
    read = {(method, path) for method, path in every if method in {"GET", "HEAD"}}
    for method, path in sorted(read | {("OPTIONS", path) for _, path in every}):
        answer = api.client.open(path, method=method, headers=request_headers)
        shared = [name for name, _ in answer.headers if name.lower().startswith("access-control")]
        assert shared == [], f"{method} {path}"
        answer.close()


def test_tokens_and_passwords_are_nowhere_in_the_database(api) -> None:
    new_token = api.post("/keys", {"name": "sender", "scopes": ["read"]}).json["token"]
    api.post("/keys/1/rotate", {"grace_seconds": 60})
    with api.engine.store.database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        written = "\n".join(driver.iterdump())
    assert "api_keys" in written
    for token in (new_token, api.token):
        secret = token[-24:]  # without how it begins, which is stored to recognise it by
        assert secret not in written
        assert secret.encode().hex().upper() not in written.upper()
