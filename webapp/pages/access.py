"""Who may see and do what: every view says so, and `webapp.pages.gate` asks before each request."""

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user
from flask_wtf.csrf import CSRFProtect

from bandits.errors import NotFound
from storage.accounts import Role, User
from webapp.services import services

SESSION = timedelta(days=7)
ROLES: tuple[Role, ...] = ("viewer", "manager", "admin")  # each may do all that those before may
CSRF = "bandits.csrf"

V = TypeVar("V", bound=Callable[..., ResponseReturnValue])


class Person:
    """Who is signed in, as flask-login wants to be told."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User) -> None:
        """Wrap an account."""
        self.user = user

    @property
    def email(self) -> str:
        """Their address; the audit log calls them by it."""
        return self.user.email

    @property
    def role(self) -> Role:
        """What they are."""
        return self.user.role

    def get_id(self) -> str:
        """Return what the session remembers; it ends to be theirs when the password changes."""
        return f"{self.user.id}.{_fingerprint(self.user)}"

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


def for_anybody(view: V) -> V:
    """Say that a view is for people who have not signed in, too."""
    view.needs = None  # type: ignore[attr-defined]
    return view


def init(app: Flask) -> None:
    """Remember who is signed in by a session cookie."""
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_COOKIE_NAME"] = "bandits"
    app.config["PERMANENT_SESSION_LIFETIME"] = SESSION
    # Pages ask by `gate`; the API has no cookies, so there is nothing to forge there.
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # a form left open over lunch is not an attack
    app.extensions[CSRF] = CSRFProtect(app)
    manager = LoginManager(app)
    manager.session_protection = None  # addresses change on a train
    manager.user_loader(_remembered)


def _remembered(session_id: str) -> Person | None:
    number, _, fingerprint = session_id.partition(".")
    try:
        user = services().accounts.user_by_id(int(number))
    except (NotFound, ValueError):
        return None
    return Person(user) if fingerprint == _fingerprint(user) else None


def _fingerprint(user: User) -> str:
    return sha256(user.password_hash.encode()).hexdigest()[:16]


def local(address: str | None) -> str:
    """Return an address if it is one of ours, else the front page."""
    parts = urlsplit((address or "").replace("\\", "/"))
    ours = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not ours or not (address or "").isprintable() or parts.path.startswith("//"):
        return url_for("pages.campaigns")
    return str(address)
