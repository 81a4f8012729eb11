"""Who may see and do what: every view says so, and `webapp.pages.gate` asks before each request."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, Request, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user, login_user
from flask_wtf.csrf import CSRFProtect

from bandits.errors import NotFound
from storage.accounts import Role, User
from storage.accounts.sessions import LASTING_SECONDS, Session
from webapp.services import services

ROLES: tuple[Role, ...] = ("viewer", "manager", "admin")  # each may do all that those before may
CSRF = "bandits.csrf"

V = TypeVar("V", bound=Callable[..., ResponseReturnValue])


class Person:
    """Who is signed in, as flask-login wants to be told."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User, session: Session, token: str) -> None:
        """Wrap an account and the session that was signed in for it."""
        self.user = user
        self.session = session
        self._token = token

    @property
    def email(self) -> str:
        """Their address; the audit log calls them by it."""
        return self.user.email

    @property
    def role(self) -> Role:
        """What they are."""
        return self.user.role

    def get_id(self) -> str:
        """Return what the browser's cookie keeps: the token of a session that can be ended."""
        return self._token

    def may(self, role: Role) -> bool:
        """Tell whether they may do what takes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


def person() -> Person:
    """Return who is signed in; only for views behind `needs`."""
    return cast("Person", current_user._get_current_object())  # noqa: SLF001 - flask-login's way


def needs(role: Role) -> Callable[[V], V]:
    """Say that a view is for people of `role`, or of one above it."""

    def mark(view: V) -> V:
        view.needs = role  # type: ignore[attr-defined]
        return view

    return mark


def allow_anybody(view: V) -> V:
    """Say that a view is for people who have not signed in, too."""
    view.needs = None  # type: ignore[attr-defined]
    return view


class PageSessions(SecureCookieSessionInterface):
    """Sessions in a signed cookie, for pages: the API reads no cookie and sets none."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Open the session of a page's request."""
        return None if request.path.startswith("/api/") else super().open_session(app, request)


def init(app: Flask) -> None:
    """Remember who is signed in by a session cookie."""
    app.session_interface = PageSessions()
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_COOKIE_NAME"] = "bandits"
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(seconds=LASTING_SECONDS)
    # Pages ask by `gate`; the API has no cookies, so there is nothing to forge there.
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # a form left open over lunch is not an attack
    app.extensions[CSRF] = CSRFProtect(app)
    # Its context processor would fail on the very page that says a session cannot be read.
    manager = LoginManager(app, add_context_processor=False)
    manager.session_protection = None  # addresses change on a train
    manager.user_loader(_remembered)


def enter_as(user: User) -> None:
    """Sign somebody in with this browser."""
    session.clear()  # nothing planted before survives
    session.permanent = True
    told = services()
    token = told.accounts.sessions.begin(
        user.id,
        agent=request.user_agent.string,
        address=request.remote_addr or "",
        at=told.engine.clock(),
    )
    remembered = _remembered(token)
    if remembered:
        login_user(remembered)


def _remembered(token: str) -> Person | None:
    told = services()
    try:
        found = told.accounts.sessions.find(token, at=told.engine.clock())
        return Person(told.accounts.user_by_id(found.user_id), found, token)
    except NotFound:
        return None


def local(address: str | None) -> str:
    """Return an address if it is one of ours, else the front page."""
    parts = urlsplit((address or "").replace("\\", "/"))
    ours = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not ours or not (address or "").isprintable() or parts.path.startswith("//"):
        return url_for("pages.campaigns")
    return str(address)
