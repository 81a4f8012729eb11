"""The pages as a browser without script meets them, on a new SQLite database each."""

from collections.abc import Callable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from msgspec import convert
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request, Reward
from storage import SqlStore, open_store
from storage.accounts import Role
from tests.patience import LIMIT_SECONDS
from webapp import passwords
from webapp.app import create_app
from webapp.jobs.uploads import Uploads
from webapp.pages.admin import throttle
from webapp.services import Services
from webapp.settings import Settings

PASSWORD = "correct horse battery"
SERVERS_HASHER = passwords._hasher
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
HASH = QUICK_HASHER.hash(PASSWORD)
NOW = 1_800_000_000.0
SALE: dict[str, Any] = {
    "key": "sale",
    "name": "Spring sale",
    "slots": [
        {
            "key": "subject_line",
            "kind": "subject_line",
            "name": "Subject line",
            "variants": [
                {"key": "a", "name": "Plain", "payload": {"text": "Spring sale"}},
                {"key": "b", "payload": {"text": "What would you like?", "preheader": "Open"}},
            ],
        },
        {
            "key": "content",
            "kind": "content",
            "variants": [
                {"key": "hero", "payload": {"html": "<h1>Hero</h1>"}},
                {"key": "story", "payload": {"html": "<p>Story</p>"}},
            ],
        },
        {
            "key": "discount",
            "kind": "discount",
            "variants": [
                {"key": "d0", "payload": {"percent": 0}},
                {"key": "d10", "payload": {"percent": 10}},
            ],
        },
    ],
    "exclude": [{"subject_line": "b", "discount": "d10"}],
    "control": {"subject_line": "a", "content": "story", "discount": "d0"},
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 1000.0, "maturity_seconds": 10.0},
    "holdout": 0.05,
}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class FormReader(HTMLParser):
    """Collects what a browser would send for the first form that has a field called `marker`."""

    def __init__(self, html: str, marker: str) -> None:
        super().__init__()
        self.marker = marker
        self.forms: list[dict[str, str]] = []
        self._open: dict[str, str] | None = None
        self._area: tuple[str, list[str]] | None = None
        self._select: str | None = None
        self._option: tuple[str | None, bool, list[str]] | None = None
        self.feed(html)

    @property
    def fields(self) -> dict[str, str]:
        return next(form for form in self.forms if self.marker in form)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {k: v or "" for k, v in attrs}
        name = attributes.get("name", "")
        match tag:
            case "form":
                self._open = {}
                self.forms.append(self._open)
            case "input" if self._open is not None and name:
                ticked = (
                    attributes.get("type") not in {"checkbox", "radio"} or "checked" in attributes
                )
                if ticked:
                    self._open[name] = attributes.get("value", "")
            case "textarea":
                self._area = (name, [])
            case "select":
                self._select = name
            case "option":
                self._end_option()
                self._option = (attributes.get("value"), "selected" in attributes, [])

    def handle_data(self, data: str) -> None:
        if self._area:
            self._area[1].append(data)
        if self._option:
            self._option[2].append(data)

    def _end_option(self) -> None:
        if self._option and self._select and self._open is not None:
            value, selected, text = self._option
            if selected or self._select not in self._open:
                self._open[self._select] = "".join(text).strip() if value is None else value
        self._option = None

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "form":
                self._open = None
            case "textarea" if self._area and self._open is not None:
                self._open[self._area[0]] = "".join(self._area[1]).removeprefix("\n")
                self._area = None
            case "option":
                self._end_option()
            case "select":
                self._end_option()
                self._select = None


class Visitor:
    """Somebody with a browser."""

    def __init__(self, site: "Site", email: str | None) -> None:
        self.client = site.app.test_client()
        self.email = email
        if email is not None:
            token = site.session(email)
            with self.client.session_transaction() as session:
                session["_user_id"] = token
                session["_fresh"] = True
        self._token = ""

    @property
    def token(self) -> str:
        if not self._token:
            page = self.get("/settings" if self.email else "/invitation")  # forms that always are
            self._token = FormReader(page.text, "csrf_token").fields["csrf_token"]
        return self._token

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def post(self, path: str, fields: Any = None, **options: Any) -> TestResponse:
        """Send a form of ours."""
        sent = MultiDict(fields or {})
        sent["csrf_token"] = self.token
        return self.client.post(path, data=sent, **options)

    def form(self, path: str, marker: str) -> dict[str, str]:
        """Open a page and return the fields of its form that has `marker`."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        return FormReader(page.text, marker).fields


class Site:
    """The application, and what is behind it."""

    def __init__(self, app: Flask, store: SqlStore, clock: Clock) -> None:
        self.app = app
        self.clock = clock
        self.store = store
        self.engine = Engine(store, clock)
        self.accounts = store.accounts
        Services(
            self.engine,
            store.accounts,
            store.drafts,
            store.connections,
            store.tracked_links,
            store.spool,
            store.outgoing,
        ).attach(app)
        throttle.init(app)

    def add(self, role: Role, email: str | None = None) -> str:
        """Add a person; their password is `PASSWORD`."""
        email = email or f"{role}@shop.example"
        self.accounts.add_user(email, HASH, role, at=self.clock(), by="test")
        return email

    def session(self, email: str, agent: str = "Test") -> str:
        """Sign somebody in, with whatever browser; return the session's token."""
        sessions, user = self.accounts.sessions, self.accounts.user(email)
        return sessions.begin(user.id, agent=agent, address="127.0.0.1", at=self.clock())

    def visitor(self, role: Role | None = None, email: str | None = None) -> Visitor:
        """Open a browser, signed in as somebody of this role unless it is None."""
        return Visitor(self, None if role is None else self.add(role, email))

    def make(self, *, start: bool = True, **declared: Any) -> str:
        """Create (and start) an experiment like `SALE`; return its key."""
        experiment = convert(SALE | declared, Experiment)
        self.engine.create(experiment, by="anna@shop.example")
        if start:
            self.engine.start(experiment.key, by="anna@shop.example")
        return experiment.key

    def send(
        self, key: str, n: int, clicks: Callable[[Decision], bool] = lambda _: False
    ) -> list[Decision]:
        """Send n emails, report clicks, and learn once they are mature."""
        decisions = self.engine.choose(key, [Request(f"s{self.clock.now}-{i}") for i in range(n)])
        events = [Reward(str(d.decision_id), "c", "click") for d in decisions if clicks(d)]
        self.engine.reward(events)
        self.clock.now += 11
        self.engine.learn(key)
        return decisions


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords in a hundredth of the time that a server takes."""
    monkeypatch.setattr(passwords, "_hasher", QUICK_HASHER)
    monkeypatch.setattr(passwords, "_placeholder_hash", lambda: HASH)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def app(sqlite) -> Iterator[Flask]:
    """One application, whose compiled templates all tests share; each gives it a database."""
    with closing(open_store(sqlite.upgraded())) as store:
        secret = "made up for a test, long enough"
        settings = Settings(
            wait_seconds=LIMIT_SECONDS, secret_key=secret, session_hours=720
        )  # tests move the clock by days
        yield create_app(
            Services(
                Engine(store),
                store.accounts,
                store.drafts,
                store.connections,
                store.tracked_links,
                store.spool,
                store.outgoing,
            ),
            settings,
        )


@pytest.fixture
def site(app, sqlite, clock, tmp_path) -> Iterator[Site]:
    """The application on a new SQLite database and folder of files, without anybody in it."""
    app.extensions["bandits.uploads"] = Uploads(tmp_path / "files")
    with closing(open_store(sqlite.upgraded())) as store:
        yield Site(app, store, clock)


@pytest.fixture
def manager(site) -> Visitor:
    return site.visitor("manager")


@pytest.fixture
def viewer(site) -> Visitor:
    return site.visitor("viewer")


@pytest.fixture
def admin(site) -> Visitor:
    return site.visitor("admin")


@pytest.fixture
def read_form() -> type[FormReader]:
    return FormReader


@pytest.fixture
def password() -> str:
    """Everybody's."""
    return PASSWORD


@pytest.fixture
def declared() -> dict[str, Any]:
    """What `Site.make` declares."""
    return SALE
