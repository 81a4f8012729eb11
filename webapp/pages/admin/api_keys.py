"""Page of the API keys: made, shown once, rotated, revoked."""

from typing import get_args

import msgspec
from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import NotFound
from storage.accounts.api_keys import ApiKey, KeyName, NewKey, RowsPerMinute
from storage.accounts.roles import Scope
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.services import services

SCOPES: tuple[Scope, ...] = get_args(Scope)
SCOPE_TEXTS: dict[Scope, str] = {
    "choose": "ask which email to send",
    "reward": "report opens, clicks, orders and unsubscribes",
    "read": "read experiments, results and receipts",
    "propose": "propose versions, each of which a person has to approve",
    "manage": "create, change, start and stop experiments, and make keys; and, if you are an admin,"
    " void what a key did and change connections",
}
GRACES = {
    0: "no longer: it leaked",
    3_600: "for another hour",
    86_400: "for another day",
    604_800: "for another week",
    2_592_000: "for another 30 days",
}


@pages.get("/settings/keys")
@needs("manager")
def api_keys() -> ResponseReturnValue:
    """List keys."""
    return _page()


@pages.post("/settings/keys")
@needs("manager")
def create_key() -> ResponseReturnValue:
    """Make a key and show its token, for the only time."""
    name = request.form.get("name", "").strip()
    scopes = [s for s in SCOPES if s in request.form.getlist("scopes")]
    errors = {}
    try:
        msgspec.convert(name, KeyName)
    except msgspec.ValidationError:
        errors["name"] = "say in 1 to 100 characters what the key is for"
    if not scopes:
        errors["scopes"] = "tick at least one thing that the key may do"
    dry_run = "dry_run" in request.form
    if dry_run and "manage" in scopes:
        errors["scopes"] = "a test key records nothing, so it may not manage"
    typed_limit = request.form.get("rows_per_minute", "").strip()
    try:
        limit = _read_limit(typed_limit)
    except ValueError:
        errors["rows_per_minute"] = "enter a whole number from 1, or leave it empty"
    if not errors and not is_own_password(request.form.get("password", "")):
        errors["password"] = NOT_YOURS
    if errors:
        return _page(name, scopes, errors, typed_limit=typed_limit, dry_run=dry_run), 422
    keys, now = services().accounts.keys, services().engine.clock()
    own = person().email
    new_key = keys.create(
        name, scopes, at=now, by=own, owner=own, rows_per_minute=limit, dry_run=dry_run
    )
    return _page(new_key=new_key)


@pages.get("/settings/keys/<int:key_id>/rotate")
@needs("manager")
def confirm_rotate_key(key_id: int) -> ResponseReturnValue:
    """Ask how long the old token goes on working."""
    return _rotation_page(_key_to_rotate(key_id))


@pages.post("/settings/keys/<int:key_id>/rotate")
@needs("manager")
def rotate_key(key_id: int) -> ResponseReturnValue:
    """Give a key a new token and show it, for the only time."""
    key = _key_to_rotate(key_id)
    if not is_own_password(request.form.get("password", "")):
        return _rotation_page(key, {"password": NOT_YOURS}), 422
    keys, now = services().accounts.keys, services().engine.clock()
    grace = request.form.get("grace", 86_400, type=int)
    if grace not in GRACES:
        grace = 86_400
    return _page(new_key=keys.rotate(key_id, grace_seconds=grace, at=now, by=person().email))


def _key_to_rotate(key_id: int) -> ApiKey:
    """Find a key whose token the person who is signed in may have; others are forbidden.

    Raises:
        NotFound: no key has this number.
    """
    key = _key(key_id)
    if key.exceeds(person().role):
        abort(403, key.role)
    return key


def _rotation_page(key: ApiKey, errors: dict[str, str] | None = None) -> str:
    return render_template(
        "admin/rotate_key.html", key=key, graces=GRACES, errors=errors or {}, tab="keys"
    )


@pages.get("/settings/keys/<int:key_id>/revoke")
@needs("manager")
def confirm_revoke_key(key_id: int) -> ResponseReturnValue:
    """Ask before a key is revoked."""
    return render_template("admin/revoke_key.html", key=_key(key_id), tab="keys")


@pages.post("/settings/keys/<int:key_id>/revoke")
@needs("manager")
def revoke_key(key_id: int) -> ResponseReturnValue:
    """Revoke a key."""
    key, now = _key(key_id), services().engine.clock()
    services().accounts.keys.revoke(key_id, at=now, by=person().email)
    flash(f"The key “{key.name}” is revoked: requests with it are refused from now on.")
    return redirect(url_for("pages.api_keys"))


def _read_limit(typed: str) -> int | None:
    """Read a limit of rows a minute; an empty field is none.

    Raises:
        ValueError: it is no whole number, or too large.
    """
    if not typed:
        return None
    return msgspec.convert(int(typed.replace(",", "")), RowsPerMinute)


def _key(key_id: int) -> ApiKey:
    """Find a key.

    Raises:
        NotFound: no key has this number.
    """
    for key in services().accounts.keys.all():
        if key.id == key_id:
            return key
    raise NotFound("API key", str(key_id))


def _page(  # noqa: PLR0913 - what was typed, and what came of it
    name: str = "",
    scopes: list[Scope] | None = None,
    errors: dict[str, str] | None = None,
    new_key: NewKey | None = None,
    *,
    typed_limit: str = "",
    dry_run: bool = False,
) -> str:
    return render_template(
        "admin/api_keys.html",
        keys=services().accounts.keys.all(),
        name=name,
        ticked_scopes=["choose", "reward"] if scopes is None else scopes,
        limit=typed_limit,
        dry_run=dry_run,
        default_limit=services().rates.rows_per_minute,
        errors=errors or {},
        new_key=new_key,
        scope_texts=SCOPE_TEXTS,
        tab="keys",
    )
