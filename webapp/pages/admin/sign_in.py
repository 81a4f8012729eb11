"""Pages to sign in and out. A form sent after its session ended is kept and sent on."""

import logging
from hashlib import sha256

from flask import Response, current_app, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, logout_user
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from bandits.errors import NotFound
from storage.accounts import User
from webapp.pages import pages
from webapp.pages.access import (
    SAFE_METHODS,
    allow_anybody,
    current_address,
    local_address,
    needs,
    open_with_any_password,
    person,
    start_session,
)
from webapp.pages.admin.second_factor import takes_code
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.pages.anonymous_forms import read_anonymous_form
from webapp.passwords import hash_password, is_outdated, matches
from webapp.services import services

_CARRIED = "carried:"
_TICKET_SECONDS = 300
_log = logging.getLogger(__name__)


@pages.get("/sign-in")
@allow_anybody
def sign_in() -> ResponseReturnValue:
    """Show the form, or the way to make the first account."""
    if current_user.is_authenticated:
        return redirect(local_address(request.args.get("next")))
    if not services().accounts.users():
        return render_template("admin/first_run.html")
    return _sign_in_form(request.args.get("next", ""), MultiDict())


@pages.post("/sign-in")
@allow_anybody
def submit_sign_in() -> ResponseReturnValue:
    """Check the password and start a session."""
    email, password = request.form.get("email", ""), request.form.get("password", "")
    carried = _carried()
    count_guess(email)
    user = _find_user(email)
    if not matches(None if user is None else user.password_hash, password) or user is None:
        _record_failure(user, "wrong password")
        return Response(
            _sign_in_form(request.form.get("next", ""), carried, email, wrong=True), 422
        )
    _rehash(user, password)
    if user.totp_secret is not None:
        return _code_form(user, carried)
    forget_guesses(email)
    return _enter(user, carried)


@pages.post("/sign-in/code")
@allow_anybody
def submit_code() -> ResponseReturnValue:
    """Check the code of the second factor, after the password, and start a session."""
    carried, user = _carried(), _user_of_ticket(request.form.get("ticket", ""))
    if user is None:
        flash("That took too long. Enter your password again.")
        return redirect(url_for("pages.sign_in"))
    count_guess(user.email)
    if not takes_code(user, request.form.get("code", "")):
        _record_failure(user, "wrong code")
        return Response(_code_form(user, carried, wrong=True), 422)
    forget_guesses(user.email)
    return _enter(user, carried)


def _enter(user: User, carried: MultiDict[str, str]) -> ResponseReturnValue:
    """Start a session, and go where the person wanted to."""
    address, now = request.remote_addr or "", services().engine.clock()
    services().accounts.record_sign_in(user.email, address, at=now)
    _log.info("signed in", extra={"user": user.id, "address": address})
    start_session(user)
    to = local_address(request.form.get("next"))
    if carried:
        return render_template("admin/continue.html", address=to, carried=carried)
    return redirect(to)


def _record_failure(user: User | None, failure: str) -> None:
    """Note a failure: for an account in the audit log, else in the log alone."""
    address = request.remote_addr or ""
    if user is None:  # what was typed may be a password, so it is not noted
        _log.warning("sign-in failed: no such account", extra={"address": address})
        return
    _log.warning("sign-in failed: %s", failure, extra={"user": user.id, "address": address})
    now = services().engine.clock()
    services().accounts.record_failed_sign_in(user.email, address, failure, at=now)


def _carried() -> MultiDict[str, str]:
    """Return the fields of the form that is sent on once somebody has signed in."""
    return MultiDict(
        (name.removeprefix(_CARRIED), value)
        for name, value in request.form.items(multi=True)
        if name.startswith(_CARRIED)
    )


def _tickets() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="second factor")


def _user_of_ticket(ticket: str) -> User | None:
    """Return the user whose password was right a moment ago, None where it is too long ago."""
    try:
        user_id, digest = _tickets().loads(ticket, max_age=_TICKET_SECONDS)
        user = services().accounts.user_by_id(user_id)
    except (BadSignature, NotFound):
        return None
    return user if digest == _digest(user) else None


def _digest(user: User) -> str:
    return sha256(user.password_hash.encode()).hexdigest()


def _code_form(user: User, carried: MultiDict[str, str], *, wrong: bool = False) -> str:
    return render_template(
        "admin/code.html",
        ticket=_tickets().dumps((user.id, _digest(user))),
        address=request.form.get("next", ""),
        carried=[(_CARRIED + name, value) for name, value in carried.items(multi=True)],
        wrong=wrong,
    )


def _find_user(email: str) -> User | None:
    try:
        return services().accounts.user(email)
    except NotFound:
        return None


def _rehash(user: User, password: str) -> None:
    if is_outdated(user.password_hash):
        services().accounts.rehash(user.email, hash_password(password))


def ask_to_sign_in() -> ResponseReturnValue:
    """Answer a request without a session: a page leads to the form, a sent form is kept in it."""
    if request.headers.get("X-Requested-With"):  # our script: it turns to the whole page
        return Response("sign in again", 401, content_type="text/plain")
    if request.method in SAFE_METHODS:
        return redirect(url_for("pages.sign_in", next=current_address()))
    # From elsewhere nothing is carried: it would be sent on in the name of who signs in.
    ours = request.headers.get("Sec-Fetch-Site") == "same-origin"
    carried = _carried_form() if ours else MultiDict()
    return Response(_sign_in_form(request.script_root + request.path, carried), 401)


def _carried_form() -> MultiDict[str, str]:
    """Return the form of the current request, nothing of one that is refused unread."""
    try:
        read_anonymous_form()
    except HTTPException:
        return MultiDict()
    carried = MultiDict(request.form.items(multi=True))
    carried.poplist("csrf_token")
    return carried


def _sign_in_form(
    address: str, carried: MultiDict[str, str], email: str = "", *, wrong: bool = False
) -> str:
    return render_template(
        "admin/sign_in.html",
        address=address,
        carried=[(_CARRIED + name, value) for name, value in carried.items(multi=True)],
        email=email,
        wrong=wrong,
    )


@pages.post("/sign-out")
@needs("viewer")
@open_with_any_password
def sign_out() -> ResponseReturnValue:
    """End the session."""
    services().accounts.sessions.end(person().session.id)
    logout_user()
    session.clear()
    flash("You are signed out.")
    return redirect(url_for("pages.sign_in"))
