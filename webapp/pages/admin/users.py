"""People who sign in, and one's own password."""

from typing import cast, get_args

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import AlreadyExists, NotFound
from storage.accounts import Role, User
from webapp.pages import pages
from webapp.pages.access import needs, person, start_session
from webapp.pages.admin.sessions import places
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.passwords import hash_password, matches, refuse_password
from webapp.services import services

ROLES: dict[Role, str] = {
    "viewer": "sees everything, changes nothing",
    "manager": "creates, starts and stops experiments, and makes API keys",
    "admin": "does all that, and adds and removes people",
}
_LONGEST_ADDRESS = 254  # RFC 5321, as corrected
_TAKEN = "there is an account with this address already"


@pages.get("/settings")
@needs("viewer")
def account() -> ResponseReturnValue:
    """Show one's own account."""
    return _account({})


@pages.post("/settings")
@needs("viewer")
def change_password() -> ResponseReturnValue:
    """Change one's own password; other sessions of the account end."""
    told, user = services(), person().user
    current, new = request.form.get("current", ""), request.form.get("new", "")
    count_guess(user.email)
    errors = {}
    if not matches(user.password_hash, current):
        errors["current"] = "this is not your password"
    else:
        forget_guesses(user.email)
    if wrong := refuse_password(new, user.email):
        errors["new"] = wrong
    elif new != request.form.get("again", ""):
        errors["again"] = "differs from the new password above"
    if errors:
        return _account(errors), 422
    told.accounts.set_password(
        user.email, hash_password(new), at=told.engine.clock(), by=user.email
    )
    start_session(told.accounts.user(user.email))
    flash("Your password is changed. Wherever else you were signed in, you are no longer.")
    return redirect(url_for("pages.account"))


def _account(errors: dict[str, str]) -> str:
    return render_template(
        "admin/account.html", errors=errors, roles=ROLES, places=places(), tab="account"
    )


@pages.get("/settings/people")
@needs("admin")
def people() -> ResponseReturnValue:
    """List people."""
    return _page()


@pages.post("/settings/people")
@needs("admin")
def add_person() -> ResponseReturnValue:
    """Add a person."""
    told = services()
    email, password = request.form.get("email", "").strip(), request.form.get("password", "")
    role = request.form.get("role", "")
    errors = {}
    local, _, domain = email.partition("@")
    if not (local and domain and email.isprintable() and " " not in email) or (
        len(email) > _LONGEST_ADDRESS
    ):
        errors["email"] = "must be an e-mail address"
    elif _taken(email):
        errors["email"] = _TAKEN
    if role not in get_args(Role):
        errors["role"] = "choose what this person may do"
    if wrong := refuse_password(password, email):
        errors["password"] = wrong
    if not errors:
        try:
            told.accounts.add_user(
                email,
                hash_password(password),
                cast("Role", role),
                at=told.engine.clock(),
                by=person().email,
            )
        except AlreadyExists:  # a moment ago
            errors["email"] = _TAKEN
    if errors:
        return _page(email, role, errors), 422
    flash(f"{email} can sign in now, as {role}. Tell them their password in person.")
    return redirect(url_for("pages.people"))


@pages.post("/settings/people/<int:user_id>/role")
@needs("admin")
def change_role(user_id: int) -> ResponseReturnValue:
    """Change what a person may do."""
    told, user, role = services(), _other(user_id), request.form.get("role", "")
    if role not in get_args(Role):
        abort(400)
    told.accounts.set_role(
        user.email, cast("Role", role), at=told.engine.clock(), by=person().email
    )
    flash(f"{user.email} is {role} now.")
    return redirect(url_for("pages.people"))


@pages.get("/settings/people/<int:user_id>/password")
@needs("admin")
def reset_password_form(user_id: int) -> ResponseReturnValue:
    """Ask for a new password of somebody who forgot theirs."""
    return render_template(
        "admin/reset_password.html", user=_other(user_id), wrong="", tab="people"
    )


@pages.post("/settings/people/<int:user_id>/password")
@needs("admin")
def reset_password(user_id: int) -> ResponseReturnValue:
    """Give somebody a new password; they are signed out everywhere."""
    told, user = services(), _other(user_id)
    password = request.form.get("password", "")
    if wrong := refuse_password(password, user.email):
        return render_template(
            "admin/reset_password.html", user=user, wrong=wrong, tab="people"
        ), 422
    told.accounts.set_password(
        user.email, hash_password(password), at=told.engine.clock(), by=person().email
    )
    flash(f"{user.email} has a new password and is signed out everywhere. Tell it in person.")
    return redirect(url_for("pages.people"))


@pages.get("/settings/people/<int:user_id>/remove")
@needs("admin")
def confirm_remove_person(user_id: int) -> ResponseReturnValue:
    """Ask before a person is removed."""
    return render_template("admin/remove_person.html", user=_other(user_id), tab="people")


@pages.post("/settings/people/<int:user_id>/remove")
@needs("admin")
def remove_person(user_id: int) -> ResponseReturnValue:
    """Remove a person."""
    told, user = services(), _other(user_id)
    told.accounts.remove_user(user.email, at=told.engine.clock(), by=person().email)
    flash(f"{user.email} can no longer sign in.")
    return redirect(url_for("pages.people"))


def _taken(email: str) -> bool:
    try:
        services().accounts.user(email)
    except NotFound:
        return False
    return True


def _other(user_id: int) -> User:
    """Find somebody else: an admin who demotes himself may leave nobody in charge.

    Raises:
        NotFound: there is nobody of this number.
    """
    user = services().accounts.user_by_id(user_id)
    if user.id == person().user.id:
        abort(409, "You cannot change or remove your own account: ask another admin.")
    return user


def _page(email: str = "", role: str = "manager", errors: dict[str, str] | None = None) -> str:
    return render_template(
        "admin/people.html",
        people=services().accounts.users(),
        email=email,
        role=role,
        errors=errors or {},
        roles=ROLES,
        tab="people",
    )
