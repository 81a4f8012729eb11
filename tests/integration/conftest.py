"""The whole application in this process, on a new SQLite database each."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, get_args

import msgspec
import pytest
from werkzeug.test import TestResponse

from bandits.engine import Engine
from storage import SqlStore, open_store
from storage.accounts.roles import Scope
from tests.patience import LIMIT_SECONDS
from webapp.app import create_app
from webapp.services import Services
from webapp.settings import Settings

NOW = 1_800_000_000.0
SPRING: dict[str, Any] = {
    "key": "spring",
    "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}, {"key": "c"}]}],
    "policy": {"name": "thompson_gaussian"},
    "reward": {
        "metrics": {"click": {}, "order": {"weight": 0.001, "high": 1000.0, "count": "sum"}},
        "window_seconds": 1000.0,
        "maturity_seconds": 10.0,
    },
    "context": [
        {"name": "recency", "kind": "number", "low": 0, "high": 24},
        {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
    ],
}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Api:
    """The API as a caller meets it, with the engine behind it at hand."""

    prefix = "/api/v1"

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self.clock = clock
        self.engine = Engine(store, clock)
        self.accounts = store.accounts
        settings = Settings(
            wait_seconds=LIMIT_SECONDS, secret_key="made up for a test, long enough"
        )
        self.app = create_app(
            Services(
                self.engine,
                store.accounts,
                store.drafts,
                store.connections,
                store.tracked_links,
                store.spool,
                store.outgoing,
            ),
            settings,
        )
        self.client = self.app.test_client()
        self.token = self.key(*get_args(Scope))

    def key(self, *scopes: Scope) -> str:
        """Make an API key and return its token."""
        return self.accounts.keys.create("test", scopes, at=self.clock(), by="test").token

    def call(  # noqa: PLR0913 - one for each part of a request
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        content_type: str | None = "application/json",
    ) -> TestResponse:
        """Call a route; `raw` is a body sent as it is."""
        sent = raw if body is None else msgspec.json.encode(body)
        allowed = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return self.client.open(
            path if path.startswith("/problems") else self.prefix + path,
            method=method,
            data=sent,
            content_type=None if sent is None else content_type,
            headers=allowed | (headers or {}),
        )

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.call("POST", path, body, **options)

    def create(self, key: str = "spring", **declared: Any) -> TestResponse:
        """Create a campaign like `SPRING`."""
        return self.post("/experiments", SPRING | {"key": key} | declared)

    def start(self, key: str = "spring", **declared: Any) -> None:
        """Create and start an experiment like `SPRING`."""
        answer = self.create(key, **declared)
        assert answer.status_code == 201, answer.text
        assert self.post(f"/experiments/{key}/start").status_code == 200

    def choose(self, subject: str = "u-1", key: str = "spring", **options: Any) -> dict[str, Any]:
        """Choose for a subject; return the decision."""
        answer = self.post(f"/experiments/{key}/choose", {"subject_id": subject} | options)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def make_api(sqlite) -> Callable[..., AbstractContextManager[Api]]:
    """Make APIs, each on a new SQLite database, with a key that may do everything."""

    @contextmanager
    def make(clock: Clock | None = None) -> Iterator[Api]:
        with closing(open_store(sqlite.upgraded())) as store:
            yield Api(store, clock or Clock())

    return make


@pytest.fixture
def api(make_api, clock) -> Iterator[Api]:
    """An API of the test's own."""
    with make_api(clock) as new_api:
        yield new_api


@pytest.fixture
def problem() -> Callable[[TestResponse, int, str], dict[str, Any]]:
    """Check that a response is a problem of a status and type; return its document."""

    def check(response: TestResponse, status: int, name: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.content_type == "application/problem+json"
        document = response.json
        assert document["type"] == f"/problems/{name}"
        assert document["status"] == status
        assert document["detail"]
        assert document["request_id"] == response.headers["X-Request-ID"]
        return document

    return check
