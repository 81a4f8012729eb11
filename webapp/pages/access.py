"""Access to pages: the role that each view needs, sessions, and the gate before each request."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import (
    Flask,
    Request,
    Response,
    abort,
    current_app,
    flash,
    redirect,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user, login_user
from flask_wtf.csrf import CSRFProtect
from itsdangerous import BadSignature

from bandits.errors import NotFound
from storage.accounts import Role, User
from storage.accounts.roles import includes
from storage.accounts.sessions import LASTING_SECONDS, Session
from webapp.pages import pages
from webapp.pages.anonymous_forms import read_anonymous_form
from webapp.pages.known_device import remember_device
from webapp.services import services

CSRF = "bandits.csrf"
_FORMS = "webapp.pages.form."
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_WITHOUT_SESSION = ("/api/", "/webhooks/", "/u/", "/w/")
_COOKIE = "bandits"  # alone, the name that it had before each server had its own

V = TypeVar("V", bound=Callable[..., ResponseReturnValue])


class Person:
    """The person who is signed in, in the form that flask-login expects."""

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
        """E-mail address, by which the audit log names this person."""
        return self.user.email

    @property
    def role(self) -> Role:
        """Role of the account."""
        return self.user.role

    def get_id(self) -> str:
        """Return the token of the session, which the browser's cookie keeps."""
        return self._token

    def may(self, role: Role) -> bool:
        """Return True if the account's role includes `role`."""
        return includes(self.role, role)


def person() -> Person:
    """Return the person who is signed in; only for views behind `needs`."""
    return cast("Person", current_user._get_current_object())  # noqa: SLF001 - flask-login's way


def needs(role: Role) -> Callable[[V], V]:
    """Reserve a view for people of `role` or of a higher one."""

    def mark(view: V) -> V:
        view.needs = role  # type: ignore[attr-defined]
        return view

    return mark


def allow_anybody(view: V) -> V:
    """Open a view to people who have not signed in."""
    view.needs = None  # type: ignore[attr-defined]
    return view


def open_with_any_password(view: V) -> V:
    """Open a view to people who have yet to replace a password that somebody else set."""
    view.with_any_password = True  # type: ignore[attr-defined]
    return view


def takes_files(view: V) -> V:
    """Allow a view bodies as long as an upload; other requests are limited to less."""
    view.takes_files = True  # type: ignore[attr-defined]
    return view


class PageSessions(SecureCookieSessionInterface):
    """Sessions in a signed cookie, for pages: API, webhooks and links read no cookie."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Open the session of a page's request."""
        if request.path.startswith(_WITHOUT_SESSION):
            return None
        if self.get_cookie_name(app) in request.cookies or _COOKIE not in request.cookies:
            return super().open_session(app, request)
        serializer = self.get_signing_serializer(app)
        with suppress(BadSignature):
            if serializer is not None:
                content = serializer.loads(request.cookies[_COOKIE], max_age=int(LASTING_SECONDS))
                earlier: SecureCookieSession = self.session_class(content)
                earlier.modified = True  # so that it goes on under the name of now
                return earlier
        return self.session_class()

    def get_cookie_secure(self, app: Flask) -> bool:
        """Send cookies over HTTPS only where the request came by it, or the settings say so."""
        return request.is_secure or super().get_cookie_secure(app)


def init(app: Flask, ask_to_sign_in: Callable[[], ResponseReturnValue]) -> None:
    """Keep sessions in a cookie; `ask_to_sign_in` answers requests that need one and have none."""
    app.session_interface = PageSessions()
    app.config["SESSION_COOKIE_HTTPONLY"] = True
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_COOKIE_NAME"] = _cookie_name(str(app.secret_key))
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(seconds=LASTING_SECONDS)
    # Pages ask by `gate`; the API has no cookies, so there is nothing to forge there.
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # a form left open over lunch is not an attack
    app.extensions[CSRF] = CSRFProtect(app)
    # Its context processor would fail on the very page that says a session cannot be read.
    manager = LoginManager(app, add_context_processor=False)
    manager.session_protection = None  # addresses change on a train
    manager.user_loader(_load_person)
    manager.unauthorized_handler(ask_to_sign_in)


def _cookie_name(secret: str) -> str:
    """Name the cookie of one server: browsers send all cookies of a host to each of its ports."""
    return f"{_COOKIE}_{sha256(secret.encode()).hexdigest()[:8]}"


@pages.before_request
def gate() -> ResponseReturnValue | None:
    """Check each request of a page: signed in, sent from a form of ours, allowed."""
    view: Any = current_app.view_functions[str(request.endpoint)]
    role: Role | None = view.needs
    if role is not None and not current_user.is_authenticated:
        return current_app.login_manager.unauthorized()  # type: ignore[attr-defined,no-any-return]
    if request.method not in SAFE_METHODS and not current_user.is_authenticated:
        read_anonymous_form()
    if getattr(view, "takes_files", False):
        request.max_content_length = current_app.config["MAX_UPLOAD_BYTES"]
    if request.method not in SAFE_METHODS:
        current_app.extensions[CSRF].protect()
    if role is not None and not person().may(role):
        abort(403, role)
    if (
        role is not None
        and person().user.must_change_password
        and not getattr(view, "with_any_password", False)
    ):
        flash("Choose a password of your own first: somebody else knows the one you have.")
        return redirect(url_for("pages.account"))
    return None


@pages.after_request
def keep_typed_forms(response: Response) -> Response:
    """Let a browser's history keep the pages of the form: what is typed there is never lost."""
    view: Any = current_app.view_functions.get(str(request.endpoint))
    if view is not None and view.__module__.startswith(_FORMS):
        response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def start_session(user: User) -> None:
    """Sign a user in with the current browser."""
    session.clear()  # nothing planted before survives
    session.permanent = True
    accounts, now = services().accounts, services().engine.clock()
    token = accounts.sessions.begin(
        user.id, agent=request.user_agent.string, address=request.remote_addr or "", at=now
    )
    signed_in = _load_person(token)
    if signed_in:
        login_user(signed_in)
    remember_device(user.email)


def _load_person(token: str) -> Person | None:
    accounts, now = services().accounts, services().engine.clock()
    try:
        signed_in = accounts.sessions.find(token, at=now)
        if now - signed_in.created_at >= current_app.config["SESSION_SECONDS"]:
            accounts.sessions.end(signed_in.id)
            return None
        return Person(accounts.user_by_id(signed_in.user_id), signed_in, token)
    except NotFound:
        return None


def current_address() -> str:
    """Return the address of the current request: path, prefix and query."""
    return f"{request.script_root}{request.full_path}".rstrip("?")


def local_address(address: str | None) -> str:
    """Return `address` if it is one of this server, else that of the front page."""
    parts = urlsplit((address or "").replace("\\", "/"))
    ours = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not ours or not (address or "").isprintable() or parts.path.startswith("//"):
        return url_for("pages.experiments")
    return str(address)
