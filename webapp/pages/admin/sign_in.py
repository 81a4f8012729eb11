"""Pages to sign in and out. A form sent after its session ended is kept and sent on."""

from flask import Response, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, logout_user
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
    person,
    start_session,
)
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.pages.anonymous_forms import read_anonymous_form
from webapp.passwords import hash_password, is_outdated, matches
from webapp.services import services

_CARRIED = "carried:"


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
    carried = MultiDict(
        (name.removeprefix(_CARRIED), value)
        for name, value in request.form.items(multi=True)
        if name.startswith(_CARRIED)
    )
    count_guess(email)
    user = _find_user(email)
    if not matches(None if user is None else user.password_hash, password) or user is None:
        return Response(
            _sign_in_form(request.form.get("next", ""), carried, email, wrong=True), 422
        )
    forget_guesses(email)
    _rehash(user, password)
    start_session(user)
    address = local_address(request.form.get("next"))
    if carried:
        return render_template("admin/continue.html", address=address, carried=carried)
    return redirect(address)


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
def sign_out() -> ResponseReturnValue:
    """End the session."""
    services().accounts.sessions.end(person().session.id)
    logout_user()
    session.clear()
    flash("You are signed out.")
    return redirect(url_for("pages.sign_in"))
