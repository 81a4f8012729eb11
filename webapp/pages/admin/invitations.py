"""Pages to invite people, and to send those who forgot their password a link."""

import secrets
from typing import cast, get_args

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import AlreadyExists
from storage.accounts import Role
from storage.accounts.one_time_links import VALID_SECONDS, Purpose
from storage.outgoing import NewNotice
from webapp.notices.outbox_worker import INVITATION, RESET
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.email import sends_mails
from webapp.pages.admin.link_forms import link_address
from webapp.pages.admin.users import REGISTERED, other_user, people_page, refuse_address
from webapp.services import services

_KINDS: dict[Purpose, str] = {"invitation": INVITATION, "reset": RESET}


@pages.post("/settings/people/invitations")
@needs("admin")
def invite_person() -> ResponseReturnValue:
    """Invite a person: a link by which they choose a password."""
    email, role = request.form.get("email", "").strip(), request.form.get("role", "")
    errors = {}
    if refusal := refuse_address(email):
        errors["email"] = refusal
    if role not in get_args(Role):
        errors["role"] = "choose what this person may do"
    if errors:
        return people_page(email, role, invite_errors=errors), 422
    try:
        links = services().accounts.links
        code = links.invite(email, cast("Role", role), at=_now(), by=person().email)
    except AlreadyExists:
        return people_page(email, role, invite_errors={"email": REGISTERED}), 422
    return _hand_over("invitation", email, code)


@pages.post("/settings/people/invitations/<int:number>/link")
@needs("admin")
def renew_invitation(number: int) -> ResponseReturnValue:
    """Make a new link for somebody who is invited."""
    links = services().accounts.links
    code = links.renew_invitation(number, at=_now())
    email = next((i.email or "" for i in links.invitations() if i.id == number), "")
    return _hand_over("invitation", email, code)


@pages.post("/settings/people/invitations/<int:number>/withdraw")
@needs("admin")
def withdraw_invitation(number: int) -> ResponseReturnValue:
    """End an invitation."""
    links = services().accounts.links
    email = links.withdraw_invitation(number, at=_now(), by=person().email)
    flash(f"{email} is no longer invited.")
    return redirect(url_for("pages.people"))


@pages.post("/settings/people/<int:user_id>/link")
@needs("admin")
def make_reset_link(user_id: int) -> ResponseReturnValue:
    """Make a link by which somebody who forgot their password sets a new one."""
    user = other_user(user_id)
    code = services().accounts.links.create_reset(user.email, at=_now(), by=person().email)
    return _hand_over("reset", user.email, code)


def _hand_over(purpose: Purpose, email: str, code: str) -> ResponseReturnValue:
    """Hand a link over: by mail where a mail server is set, else shown this once, to be copied.

    The mail has a new code, made when it is written: the outbox keeps none.
    """
    if sends_mails():
        link = services().accounts.links.find(purpose, code, at=_now())
        content = {"email": email, "by": person().email, "number": str(link.id)}
        event = f"{purpose}:{secrets.token_hex(8)}"
        notice = NewNotice(event, f"address:{email}", _KINDS[purpose], content)
        services().outgoing.outbox.add([notice], at=_now())
        flash(f"A mail with a link is on its way to {email}.")
        return redirect(url_for("pages.people"))
    return render_template(
        "admin/copy_link.html",
        purpose=purpose,
        email=email,
        address=link_address(purpose, code),
        expires_at=_now() + VALID_SECONDS[purpose],
        tab="people",
    )


def _now() -> float:
    return services().engine.clock()
