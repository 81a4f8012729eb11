"""Pages of the people who sign in, and of one's own account."""

from typing import cast, get_args

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import AlreadyExists, NotFound
from storage.accounts import Role, User
from webapp.pages import pages
from webapp.pages.access import needs, open_with_any_password, person, start_session
from webapp.pages.admin.alerts import own_alerts
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.pages.admin.provider import takes_passwords
from webapp.pages.admin.sessions import sign_in_places
from webapp.pages.formatting import plural
from webapp.passwords import hash_password, refuse_password
from webapp.services import services

ROLES: dict[Role, str] = {
    "viewer": "sees everything, changes nothing",
    "manager": "creates, starts and stops experiments, and makes API keys",
    "admin": "has full access, and manages people",
}
_LONGEST_ADDRESS = 254  # RFC 5321, as corrected
REGISTERED = "there is an account with this address already"


@pages.get("/settings")
@needs("viewer")
@open_with_any_password
def account() -> ResponseReturnValue:
    """Show the account of the person who is signed in."""
    return _account_page({})


@pages.post("/settings")
@needs("viewer")
@open_with_any_password
def change_password() -> ResponseReturnValue:
    """Change the password of the person who is signed in; their other sessions end."""
    accounts, user = services().accounts, person().user
    current, new = request.form.get("current", ""), request.form.get("new", "")
    errors = {}
    if not is_own_password(current):
        errors["current"] = NOT_YOURS
    if refusal := refuse_password(new, user.email):
        errors["new"] = refusal
    elif new == current:
        errors["new"] = "must differ from the one you have"
    elif new != request.form.get("again", ""):
        errors["again"] = "differs from the new password above"
    if errors:
        return _account_page(errors), 422
    accounts.set_password(user.email, hash_password(new), at=_now(), by=user.email)
    start_session(accounts.user(user.email))
    flash("Your password is changed. Wherever else you were signed in, you are no longer.")
    return redirect(url_for("pages.account"))


def _account_page(errors: dict[str, str]) -> str:
    return render_template(
        "admin/account.html",
        errors=errors,
        roles=ROLES,
        sign_in_places=sign_in_places(),
        alert_kinds=own_alerts(),
        chosen_alerts=services().outgoing.alerts.choices(person().user.id),
        mails_are_set=services().outgoing.mail_settings.exists(),
        session_hours=f"{current_app.config['SESSION_SECONDS'] / 3600:g}",
        tab="account",
    )


@pages.get("/settings/people")
@needs("admin")
def people() -> ResponseReturnValue:
    """List people."""
    return people_page()


@pages.post("/settings/people")
@needs("admin")
def add_person() -> ResponseReturnValue:
    """Add a person."""
    email, password = request.form.get("email", "").strip(), request.form.get("password", "")
    role = request.form.get("role", "")
    errors = {}
    if refusal := refuse_address(email):
        errors["email"] = refusal
    elif _is_registered(email):
        errors["email"] = REGISTERED
    if role not in get_args(Role):
        errors["role"] = "choose what this person may do"
    if refusal := refuse_password(password, email):
        errors["password"] = refusal
    if not errors:
        try:
            services().accounts.add_user(
                email,
                hash_password(password),
                cast("Role", role),
                at=_now(),
                by=person().email,
                must_change=True,
            )
        except AlreadyExists:  # a moment ago
            errors["email"] = REGISTERED
    if errors:
        return people_page(email, role, errors), 422
    flash(
        f"{email} can sign in now, as {role}. Share the password securely: they choose their own"
        " when they sign in."
    )
    return redirect(url_for("pages.people"))


@pages.post("/settings/people/<int:user_id>/role")
@needs("admin")
def change_role(user_id: int) -> ResponseReturnValue:
    """Change what a person may do."""
    user, role = other_user(user_id), request.form.get("role", "")
    if role not in get_args(Role):
        abort(400)
    services().accounts.set_role(user.email, cast("Role", role), at=_now(), by=person().email)
    idle = [
        key
        for key in services().accounts.keys.all()
        if key.owner == user.email and key.revoked_at is None and key.idle_scopes
    ]
    limited = (
        f" {plural(len(idle), 'API key')} of theirs may only do what that role may: give senders"
        " that use them a key of somebody else."
    )
    flash(f"{user.email} is {role} now.{limited if idle else ''}")
    return redirect(url_for("pages.people"))


@pages.get("/settings/people/<int:user_id>/password")
@needs("admin")
def reset_password_form(user_id: int) -> ResponseReturnValue:
    """Ask for the new password of a person who forgot theirs."""
    return render_template(
        "admin/reset_password.html", user=other_user(user_id), refusal="", tab="people"
    )


@pages.post("/settings/people/<int:user_id>/password")
@needs("admin")
def reset_password(user_id: int) -> ResponseReturnValue:
    """Set another person's password; they are signed out everywhere."""
    user, password = other_user(user_id), request.form.get("password", "")
    if refusal := refuse_password(password, user.email):
        return render_template(
            "admin/reset_password.html", user=user, refusal=refusal, tab="people"
        ), 422
    accounts, now, own = services().accounts, _now(), person().email
    accounts.set_password(user.email, hash_password(password), at=now, by=own, must_change=True)
    if user.totp_secret is not None and "codes_off" in request.form:
        accounts.set_totp(user.email, None, at=now, by=own)
    flash(
        f"{user.email} has a new password and is signed out everywhere. Share it securely: they"
        " choose their own when they sign in."
    )
    return redirect(url_for("pages.people"))


@pages.get("/settings/people/<int:user_id>/remove")
@needs("admin")
def confirm_remove_person(user_id: int) -> ResponseReturnValue:
    """Ask before a person is removed, and what becomes of their keys."""
    user = other_user(user_id)
    keys = [
        key
        for key in services().accounts.keys.all()
        if key.owner == user.email and key.revoked_at is None
    ]
    return render_template("admin/remove_person.html", user=user, keys=keys, tab="people")


@pages.post("/settings/people/<int:user_id>/remove")
@needs("admin")
def remove_person(user_id: int) -> ResponseReturnValue:
    """Remove a person."""
    user = other_user(user_id)
    own = person().email
    heir = own if request.form.get("keys") == "hand over" else None
    services().accounts.remove_user(user.email, at=_now(), by=own, heir=heir)
    flash(f"{user.email} can no longer sign in.")
    return redirect(url_for("pages.people"))


def refuse_address(email: str) -> str | None:
    """Return the reason why an e-mail address is refused, or None."""
    local, _, domain = email.partition("@")
    parts_fit = local and domain and email.isprintable() and " " not in email
    if parts_fit and len(email) <= _LONGEST_ADDRESS:
        return None
    return "must be an e-mail address"


def _now() -> float:
    return services().engine.clock()


def _is_registered(email: str) -> bool:
    try:
        services().accounts.user(email)
    except NotFound:
        return False
    return True


def other_user(user_id: int) -> User:
    """Find another user: an admin who demotes himself may leave nobody in charge.

    Raises:
        NotFound: no user has this number.
    """
    user = services().accounts.user_by_id(user_id)
    if user.id == person().user.id:
        abort(409, "You cannot change or remove your own account: ask another admin.")
    return user


def people_page(
    email: str = "",
    role: str = "manager",
    errors: dict[str, str] | None = None,
    invite_errors: dict[str, str] | None = None,
) -> str:
    """Render the page of all people, with what was typed and what does not fit."""
    return render_template(
        "admin/people.html",
        people=services().accounts.users(),
        invitations=services().accounts.links.invitations(),
        now=_now(),
        with_passwords=takes_passwords(),
        email=email,
        role=role,
        errors=errors or {},
        invite_errors=invite_errors or {},
        roles=ROLES,
        tab="people",
    )
