"""Second factor: codes of an authenticator app (TOTP, RFC 6238), turned on by each person."""

from datetime import UTC, datetime

import pyotp
import segno
from flask import flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from storage.accounts import User
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.services import services

_PERIOD = 30
_SKEW = 1  # periods that a phone's clock may be off
_NEW_SECRET = "new_totp_secret"  # noqa: S105 - its place in the session
_GROUP = 4
_MODULE = 4  # pixels of a QR code's smallest square
_QUIET = 4  # such squares around it, as ISO 18004 asks for


def takes_code(user: User, code: str) -> bool:
    """Return True for a code of a user's app that was not used before, and note its use."""
    if user.totp_secret is None:
        return False
    step = _step_of(user.totp_secret, code)
    return step is not None and services().accounts.take_totp_step(user.id, step)


def _step_of(secret: str, code: str) -> int | None:
    """Return the period that a code is of, None for a wrong one or one of another time."""
    digits = "".join(code.split())
    now, totp = services().engine.clock(), pyotp.TOTP(secret)
    for step in range(int(now // _PERIOD) - _SKEW, int(now // _PERIOD) + _SKEW + 1):
        if totp.verify(digits, for_time=datetime.fromtimestamp(step * _PERIOD, UTC)):
            return step
    return None


@pages.get("/settings/codes")
@needs("viewer")
def codes() -> ResponseReturnValue:
    """Show how to turn codes on, with a new secret, or off."""
    if person().user.totp_secret is None:
        session[_NEW_SECRET] = pyotp.random_base32()
    return _page({})


@pages.post("/settings/codes")
@needs("viewer")
def turn_on_codes() -> ResponseReturnValue:
    """Turn codes on, once one was typed from the app."""
    user, secret = person().user, session.get(_NEW_SECRET)
    if user.totp_secret is not None or secret is None:
        return redirect(url_for("pages.codes"))
    errors = {}
    if not is_own_password(request.form.get("password", "")):
        errors["password"] = NOT_YOURS
    step = _step_of(secret, request.form.get("code", ""))
    if step is None:
        errors["code"] = "is not the code that the app shows now"
    if errors or step is None:
        return _page(errors), 422
    accounts, now = services().accounts, services().engine.clock()
    accounts.set_totp(user.email, secret, at=now, by=user.email)
    accounts.take_totp_step(user.id, step)
    accounts.sessions.end_others(person().session, at=now, by=user.email)
    session.pop(_NEW_SECRET)
    flash("Sign-in codes are on. You are signed out everywhere else.")
    return redirect(url_for("pages.account"))


@pages.post("/settings/codes/off")
@needs("viewer")
def turn_off_codes() -> ResponseReturnValue:
    """Turn codes off."""
    user = person().user
    if not is_own_password(request.form.get("password", "")):
        return _page({"password": NOT_YOURS}), 422
    now = services().engine.clock()
    services().accounts.set_totp(user.email, None, at=now, by=user.email)
    flash("Sign-in codes are off.")
    return redirect(url_for("pages.account"))


def _address(secret: str) -> str:
    """Return the address that opens an app with a new secret."""
    uri: str = pyotp.TOTP(secret).provisioning_uri(name=person().email, issuer_name="Bandits")
    return uri


def qr_code(address: str) -> Markup:
    """Draw an address as a QR code, dark on white whatever the theme, in SVG without styles."""
    code = segno.make(address, error="m", micro=False)
    return Markup(  # noqa: S704 - paths and numbers, whatever the address is
        code.svg_inline(scale=_MODULE, border=_QUIET, light="#fff", svgclass="qr", lineclass=None)
    )


def _page(errors: dict[str, str]) -> str:
    secret = session.get(_NEW_SECRET, "")
    address = _address(secret) if secret else ""
    return render_template(
        "admin/codes.html",
        errors=errors,
        is_on=person().user.totp_secret is not None,
        secret=" ".join(secret[i : i + _GROUP] for i in range(0, len(secret), _GROUP)),
        address=address,
        qr_code=qr_code(address) if address else "",
        tab="account",
    )
