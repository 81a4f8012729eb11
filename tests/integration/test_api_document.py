"""docs/api.md: everything that the API has is in it."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from bandits import errors
from storage.accounts.roles import Scope
from tests.integration.conftest import Api
from webapp.api import operation, problems
from webapp.api.experiments import EXAMPLE
from webapp.api.routes import every_operation

EVERY_OPERATION = list(every_operation())
PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()


@pytest.mark.parametrize(
    ("prefix", "route_operation"),
    list(every_operation()),
    ids=lambda part: getattr(part, "name", ""),
)
def test_every_route_is_documented_with_its_scope(prefix, route_operation) -> None:
    path = re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + route_operation.path)
    route = re.escape(f"`{route_operation.method} {path}`")
    match = re.search(rf"^(?:### {route} · (\w+)|\| {route} \| (\w+) \|.*)$", PAGE, re.MULTILINE)
    assert match is not None, path
    assert (match[1] or match[2]) == (route_operation.scope or "none")


def test_no_route_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"`((?:GET|POST|PATCH|PUT|DELETE) /[^`]*)`", PAGE))
    served = {
        f"{o.method} " + re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + o.path)
        for prefix, o in every_operation()
    }
    assert documented == served


def test_every_problem_type_is_documented_with_its_status_and_no_other() -> None:
    documented = re.findall(r"^\| `/problems/([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)
    assert sorted(documented) == [(t.name, str(t.status)) for t in problems.TYPES.values()]
    assert [status for _, status in documented] == sorted(status for _, status in documented)


def test_every_scope_is_documented() -> None:
    for scope in get_args(Scope):
        assert f"| `{scope}` |" in PAGE


def test_every_field_of_an_experiment_is_documented(api) -> None:
    declared = api.get("/openapi.json").json["components"]["schemas"]["Experiment"]["properties"]
    for name in declared:
        assert f"\n| `{name}` |" in PAGE, name


@pytest.mark.parametrize("name", sorted(problems.TYPES))
def test_following_a_problems_type_explains_it(api, name) -> None:
    response = api.get(f"/problems/{name}")
    assert response.status_code == 200
    assert problems.TYPES[name].help in response.text


def test_every_error_that_the_engine_raises_has_a_type_of_its_own() -> None:
    kinds = {k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)}
    # The root stands for the unforeseen; the others are raised as a process starts.
    for kind in kinds - {errors.BanditsError, errors.DuplicatePolicy, errors.ShadowedPackage}:
        assert problems.TYPE_BY_EXCEPTION[kind].status < 500 or issubclass(kind, errors.Unavailable)


class Exchange(NamedTuple):
    """A request that the page shows, and the answer to it."""

    method: str
    path: str
    situation: str  # empty where there is nothing special
    headers: dict[str, str]
    body: str
    status: int
    answered_headers: dict[str, str]
    content: str


def exchanges() -> Iterator[Exchange]:
    """Go through the requests that the page shows."""
    for block in re.findall(r"^```http\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL):
        texts = block.split("\n\n")
        for request, answer in zip(texts[::2], texts[1::2], strict=True):
            head, brace, body = request.partition("\n{")
            line, *fields = head.splitlines()
            method, _, path = line.partition(" ")
            situation = "".join(f.removeprefix("# ") for f in fields if f.startswith("# "))
            headers = dict(f.split(": ", 1) for f in fields if not f.startswith("# "))
            above, answered, content = answer.partition("\n{")
            status, *answer_fields = above.splitlines()
            yield Exchange(
                method,
                path,
                situation,
                headers,
                brace[1:] + body,
                int(status),
                dict(f.split(": ", 1) for f in answer_fields),
                answered[1:] + content,
            )


def busy(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise errors.Unavailable("the database is busy writing")

    monkeypatch.setattr(api.engine.store.database, "writing", refuse)


def file_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    path = Path(str(api.engine.store.database.engine.url.database))
    api.engine.store.close()  # connections opened from here on look for the file
    path.rename(path.with_suffix(".moved"))


def older(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    with api.engine.store.database.writing() as transaction:
        transaction.execute(text("ALTER TABLE decisions DROP COLUMN shipped"))


def failing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.engine, "choose", lambda *_, **__: 1 // 0)
    api.app.config["PROPAGATE_EXCEPTIONS"] = False


def not_derivable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise errors.NotDerivable("what spring had learned rested on rows that have been erased")

    monkeypatch.setattr(api.engine, "receipt", refuse)


SITUATIONS: Mapping[str, Callable[[Api, pytest.MonkeyPatch], None]] = {
    "while the database is busy": busy,
    "while the database's file is away": file_away,
    "while the database is older than the server": older,
    "while a part of the server fails": failing,
    "where a receipt cannot be derived": not_derivable,
}
PADDED = "with a body of 9 MB"


def fits(shown: Any, actual: Any) -> bool:
    """Compare what the page shows with an answer; ``…`` stands for anything."""
    if isinstance(shown, str) and isinstance(actual, str) and shown.endswith("…"):
        return actual.startswith(shown.removesuffix("…"))
    if shown == "…":
        return True
    if isinstance(shown, dict) and isinstance(actual, dict):
        return set(shown) == set(actual) and all(fits(shown[k], actual[k]) for k in shown)
    return bool(shown == actual)


def prepared(api: Api) -> Api:
    """Start the experiment of the OpenAPI document."""
    assert api.post("/experiments", EXAMPLE).status_code == 201
    assert api.post(f"/experiments/{EXAMPLE['key']}/start").status_code == 200
    return api


def keys_of(api: Api) -> dict[str, str]:
    """Make the keys that the page names."""

    def make(*scopes: Scope, **options: Any) -> str:
        return api.accounts.keys.create("x", scopes, at=api.clock(), by="test", **options).token

    return {
        "READER": make("read"),
        "SLOW": make("choose", rows_per_minute=2),
        "TESTER": make("choose", "reward", dry_run=True),
    }


def ask(api: Api, exchange: Exchange, tokens: Mapping[str, str]) -> TestResponse:
    """Send a request of the page."""
    headers = dict(exchange.headers)
    for name, token in tokens.items():
        if "Authorization" in headers:
            headers["Authorization"] = headers["Authorization"].replace(name, token)
    raw = exchange.body.encode() or None
    if exchange.situation == PADDED:
        raw = exchange.body.encode() + b" " * 9_000_000
    return api.call(
        exchange.method,
        exchange.path.removeprefix(api.prefix),
        headers=headers,
        raw=raw,
        content_type=headers.pop("Content-Type", "application/json"),
    )


def check(exchange: Exchange, response: TestResponse) -> None:
    """Compare an answer with what the page shows of it."""
    told = (exchange, response.text)
    assert response.status_code == exchange.status, told
    for name, value in exchange.answered_headers.items():
        assert fits(value, response.headers.get(name)), told
    if exchange.content:
        actual = {n: v for n, v in response.json.items() if n != "request_id"}
        assert fits(json.loads(exchange.content), actual), told


def test_examples_are_answered_as_the_page_shows(api, make_api, monkeypatch) -> None:
    monkeypatch.setattr(operation, "time", StoppedTime())
    tokens = keys_of(prepared(api))
    for exchange in exchanges():
        if exchange.situation in {"", PADDED}:
            check(exchange, ask(api, exchange, tokens))
            continue
        with make_api() as other, monkeypatch.context() as patch:
            SITUATIONS[exchange.situation](prepared(other), patch)
            check(exchange, ask(other, exchange, tokens={}))


class StoppedTime:
    """The module `time`, whose clock for measuring stands still."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def monotonic() -> float:
        return 1000.0


def test_examples_show_each_problem_type_and_every_situation() -> None:
    shown = {json.loads(e.content)["type"] for e in exchanges() if e.content and e.status >= 400}
    assert shown == {t.uri for t in problems.TYPES.values()}
    assert {e.situation for e in exchanges()} == {"", PADDED, *SITUATIONS}


def test_links_within_the_page_lead_to_its_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
    targets = re.findall(r"\]\(#([^)]*)\)", PAGE)
    assert len(targets) > 20
    assert set(targets) <= anchors
    assert not re.findall(r"\[#[^]]*\)", PAGE)  # a link without its text
