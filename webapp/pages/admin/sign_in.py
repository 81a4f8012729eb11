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
from webapp.pages.admin.provider import password_opens, provider, takes_passwords
from webapp.pages.admin.second_factor import takes_code
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.pages.anonymous_forms import read_anonymous_form
from webapp.passwords import hash_password, is_outdated, matches
from webapp.services import services

WRONG_PASSWORD = "wrong password"  # noqa: S105 - a reason
_CARRIED = "carried:"
_ISSUER = "issuer"  # in the session: of the provider that it was begun by
_TICKET_SECONDS = 300
_log = logging.getLogger(__name__)


@pages.get("/sign-in")
@allow_anybody
def sign_in() -> ResponseReturnValue:
    """Show the form, or the way to make the first account."""
    if current_user.is_authenticated:
        return redirect(local_address(request.args.get("next")))
    if provider() is None and not services().accounts.users():
        return _first_run_page()
    return _sign_in_form(request.args.get("next", ""), MultiDict())


@pages.post("/sign-in")
@allow_anybody
def submit_sign_in() -> ResponseReturnValue:
    """Check the password and start a session."""
    email, password = request.form.get("email", ""), request.form.get("password", "")
    carried = _carried()
    count_guess(email)
    user = find_user(email)
    if not matches(None if user is None else user.password_hash, password) or user is None:
        record_failure(user, WRONG_PASSWORD)
        return Response(
            _sign_in_form(request.form.get("next", ""), carried, email, wrong=True), 422
        )
    if not password_opens(user):
        record_failure(user, "password sign-in is off")
        return Response(_sign_in_form(request.form.get("next", ""), carried, email, off=True), 422)
    _rehash(user, password)
    if user.totp_secret is not None:
        return code_form(user, request.form.get("next", ""), carried)
    forget_guesses(email)
    return enter(user, request.form.get("next", ""), carried)


@pages.post("/sign-in/code")
@allow_anybody
def submit_code() -> ResponseReturnValue:
    """Check the code of the second factor, after the password, and start a session."""
    carried, address = _carried(), request.form.get("next", "")
    user, issuer = _user_of_ticket(request.form.get("ticket", ""))
    if user is None:
        flash("That took too long. Enter your password again.")
        return redirect(url_for("pages.sign_in"))
    count_guess(user.email)
    if not takes_code(user, request.form.get("code", "")):
        record_failure(user, "wrong code")
        return Response(code_form(user, address, carried, issuer=issuer, wrong=True), 422)
    forget_guesses(user.email)
    return enter(user, address, carried, issuer=issuer)


def enter(
    user: User,
    target: str,
    carried: MultiDict[str, str] | None = None,
    *,
    issuer: str | None = None,
) -> ResponseReturnValue:
    """Start a session, and go where the person wanted to.

    Args:
        user: who is proven.
        target: address of the page.
        carried: fields of a form to send on.
        issuer: the provider that proved them, None for a password.
    """
    address, now = request.remote_addr or "", services().engine.clock()
    services().accounts.record_sign_in(user.email, address, at=now, provider=issuer)
    _log.info("signed in", extra={"user": user.id, "address": address})
    start_session(user)
    if issuer is not None:
        session[_ISSUER] = issuer
    to = local_address(target)
    if carried:
        return render_template("admin/continue.html", address=to, carried=carried)
    return redirect(to)


def record_failure(user: User | None, failure: str) -> None:
    """Note a failure: for an account in the audit log, else in the log alone."""
    address = request.remote_addr or ""
    if user is None:  # what was typed may be a password, so it is not noted
        unknown = "no such account" if failure == WRONG_PASSWORD else failure
        _log.warning("sign-in failed: %s", unknown, extra={"address": address})
        return
    _log.warning("sign-in failed: %s", failure, extra={"user": user.id, "address": address})
    now = services().engine.clock()
    services().accounts.record_failed_sign_in(user.email, address, failure, at=now)


def _first_run_page() -> str:
    """Show where the way to the first account is, while nobody has one."""
    ends_at = services().accounts.links.set_up_expiry()
    has_ended = ends_at is not None and ends_at <= services().engine.clock()
    return render_template("admin/first_run.html", link_ends_at=ends_at, link_has_ended=has_ended)


def _carried() -> MultiDict[str, str]:
    """Return the fields of the form that is sent on once somebody has signed in."""
    return MultiDict(
        (name.removeprefix(_CARRIED), value)
        for name, value in request.form.items(multi=True)
        if name.startswith(_CARRIED)
    )


def _tickets() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="second factor")


def _user_of_ticket(ticket: str) -> tuple[User | None, str | None]:
    """Return the user who was proven a moment ago and by which provider, None if too long ago."""
    try:
        user_id, digest, issuer = _tickets().loads(ticket, max_age=_TICKET_SECONDS)
        user = services().accounts.user_by_id(user_id)
    except (BadSignature, NotFound, ValueError):
        return None, None
    return (user if digest == _digest(user) else None), issuer


def _digest(user: User) -> str:
    return sha256(user.password_hash.encode()).hexdigest()


def code_form(
    user: User,
    target: str,
    carried: MultiDict[str, str] | None = None,
    *,
    issuer: str | None = None,
    wrong: bool = False,
) -> str:
    """Ask somebody who is proven for the code of their second factor; for arguments see `enter`."""
    fields = (carried or MultiDict()).items(multi=True)
    return render_template(
        "admin/code.html",
        ticket=_tickets().dumps((user.id, _digest(user), issuer)),
        address=target,
        carried=[(_CARRIED + name, value) for name, value in fields],
        wrong=wrong,
    )


def find_user(email: str) -> User | None:
    """Return the user of an address, None where there is none."""
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
    address: str,
    carried: MultiDict[str, str],
    email: str = "",
    *,
    wrong: bool = False,
    off: bool = False,
) -> str:
    own = provider()
    return render_template(
        "admin/sign_in.html",
        address=address,
        carried=[(_CARRIED + name, value) for name, value in carried.items(multi=True)],
        email=email,
        wrong=wrong,
        off=off,
        provider_name=None if own is None else own.name,
        with_passwords=takes_passwords(),
    )


@pages.post("/sign-out")
@needs("viewer")
@open_with_any_password
def sign_out() -> ResponseReturnValue:
    """End the session."""
    services().accounts.sessions.end(person().session.id)
    own = provider() if session.get(_ISSUER) else None
    logout_user()
    session.clear()
    if own is None:
        flash("You are signed out.")
    else:
        flash(f"You are signed out of Bandits. You may still be signed in at {own.name}.")
    return redirect(url_for("pages.sign_in"))
