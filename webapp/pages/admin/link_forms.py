"""Pages that one-time links lead to: the first account, an invitation, a forgotten password.

A link's code stands behind the # of its address, which browsers send to nobody: it is in no log of
a server or a proxy. Our script puts it into the form; without script it is pasted there.
"""

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.errors import AlreadyExists, NotFound
from storage.accounts.one_time_links import OneTimeLink, Purpose
from webapp.links.link_views import PUBLIC_URL
from webapp.pages import pages
from webapp.pages.access import allow_anybody
from webapp.pages.admin.provider import provider, takes_passwords
from webapp.pages.admin.sign_in import enter
from webapp.pages.admin.throttle import count_code
from webapp.pages.admin.users import refuse_address
from webapp.passwords import hash_password, refuse_password
from webapp.services import services

PATHS: dict[Purpose, str] = {
    "set-up": "/set-up",
    "invitation": "/invitation",
    "reset": "/new-password",
}
_LONGEST_CODE = 200
_NO_LINK = (
    "This link does not work: it was used already, has ended, or is not complete. Check that you"
    " have all of it."
)


class LinkForm(Struct, frozen=True):
    """Form of a link's page as it was sent.

    Attributes:
        errors: by field.
    """

    code: str = ""
    email: str = ""
    password: str = ""
    again: str = ""
    errors: dict[str, str] = {}


def link_address(purpose: Purpose, code: str) -> str:
    """Return the address of a link: by `BANDITS_PUBLIC_URL`, else as a path of this server.

    What a request names as its host is never part of it.
    """
    public_url = current_app.config[PUBLIC_URL]
    root = request.script_root if public_url is None else public_url.rstrip("/")
    return f"{root}{PATHS[purpose]}#{code}"


@pages.get("/set-up")
@allow_anybody
def set_up() -> ResponseReturnValue:
    """Show the form of the first account, while nobody has one."""
    if _is_set_up():
        return redirect(url_for("pages.sign_in"))
    return _set_up_page(LinkForm())


@pages.post("/set-up")
@allow_anybody
def create_first_account() -> ResponseReturnValue:
    """Make the first account, an admin's, and sign its owner in."""
    if _is_set_up():
        return redirect(url_for("pages.sign_in"))
    form, link = _read("set-up")
    if link is not None and (refusal := refuse_address(form.email)):
        form.errors["email"] = refusal
    if link is not None and not form.errors:
        _check_password(form, form.email)
    if form.errors:
        return _set_up_page(form), 422
    try:
        user = services().accounts.add_first_user(
            form.code, form.email, hash_password(form.password), at=_now()
        )
    except NotFound:  # somebody else used it in this moment
        form.errors["code"] = _NO_LINK
        return _set_up_page(form), 422
    answer = enter(user, "")
    flash("Your account is ready. Add your team under Settings, or begin with a campaign.")
    return answer


@pages.get("/invitation")
@allow_anybody
def invitation() -> ResponseReturnValue:
    """Show the form in which an invited person chooses a password."""
    return _link_page("invitation", LinkForm())


@pages.post("/invitation")
@allow_anybody
def accept_invitation() -> ResponseReturnValue:
    """Make the account of an invited person, and sign them in."""
    form, link = _read("invitation")
    if link is not None:
        _check_password(form, link.email or "")
    if form.errors:
        return _link_page("invitation", form), 422
    try:
        user = services().accounts.accept_invitation(
            form.code, hash_password(form.password), at=_now()
        )
    except (NotFound, AlreadyExists):
        form.errors["code"] = _NO_LINK
        return _link_page("invitation", form), 422
    answer = enter(user, "")
    flash("Your account is ready.")
    return answer


@pages.get("/new-password")
@allow_anybody
def new_password() -> ResponseReturnValue:
    """Show the form in which somebody who forgot a password chooses a new one."""
    return _link_page("reset", LinkForm())


@pages.post("/new-password")
@allow_anybody
def set_new_password() -> ResponseReturnValue:
    """Set a new password by a link; its owner then signs in, with their code."""
    form, link = _read("reset")
    if link is not None:
        _check_password(form, link.email or "")
    if form.errors:
        return _link_page("reset", form), 422
    try:
        services().accounts.reset_password(form.code, hash_password(form.password), at=_now())
    except NotFound:
        form.errors["code"] = _NO_LINK
        return _link_page("reset", form), 422
    flash("Your password is changed. Sign in with the new one.")
    return redirect(url_for("pages.sign_in"))


def _read(purpose: Purpose) -> tuple[LinkForm, OneTimeLink | None]:
    """Read the sent form, and find its link before anything of it costs time.

    Raises:
        TooManyRequests: this address sent too many codes lately.
    """
    count_code()
    form = LinkForm(
        request.form.get("code", "").strip().rpartition("#")[2][:_LONGEST_CODE],
        request.form.get("email", "").strip(),
        request.form.get("password", ""),
        request.form.get("again", ""),
        {},
    )
    if purpose != "set-up" and not takes_passwords():
        form.errors["code"] = "Passwords are turned off here."
        return form, None
    try:
        return form, services().accounts.links.find(purpose, form.code, at=_now())
    except NotFound:
        form.errors["code"] = _NO_LINK
        return form, None


def _check_password(form: LinkForm, email: str) -> None:
    if refusal := refuse_password(form.password, email):
        form.errors["password"] = refusal
    elif form.password != form.again:
        form.errors["again"] = "differs from the password above"


def _is_set_up() -> bool:
    """Return True where no first account is made here: somebody has one, or a provider decides."""
    return provider() is not None or bool(services().accounts.users())


def _set_up_page(form: LinkForm) -> str:
    return render_template("admin/set_up.html", form=form)


def _link_page(purpose: Purpose, form: LinkForm) -> str:
    return render_template("admin/link_password.html", form=form, purpose=purpose)


def _now() -> float:
    return services().engine.clock()
