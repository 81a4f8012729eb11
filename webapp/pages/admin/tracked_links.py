"""Page of tracked links: the hosts that they may lead to, and the keys that sign them."""

from collections.abc import Mapping

import msgspec
from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import Conflict, InvalidInput, NotFound
from storage.accounts.api_keys import KeyName
from storage.tracked_links import NewTrackingKey, StoredTrackingKey
from webapp.links.link_views import PUBLIC_URL, link_reader
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.services import services

_KEY = "/settings/tracked-links/keys/<int:key_number>"


@pages.get("/settings/tracked-links")
@needs("admin")
def tracked_links() -> ResponseReturnValue:
    """Show hosts and keys."""
    return _page()


@pages.post("/settings/tracked-links/hosts")
@needs("admin")
def change_link_hosts() -> ResponseReturnValue:
    """Let links lead to the typed hosts alone."""
    hosts = request.form.get("hosts", "").split()
    try:
        services().tracked_links.set_hosts(hosts, at=services().engine.clock(), by=person().email)
    except InvalidInput as error:
        place = error.faults[0].pointer.rpartition("/")[2]
        name = f"“{hosts[int(place)]}” " if place.isdigit() else ""
        return _page(errors={"hosts": f"{name}{error.faults[0].detail}"}), 422
    link_reader().ring.forget()
    flash("Saved.")
    return redirect(url_for("pages.tracked_links"))


@pages.post("/settings/tracked-links/keys")
@needs("admin")
def create_tracking_key() -> ResponseReturnValue:
    """Make a key and show it, for the only time."""
    name, errors = request.form.get("name", "").strip(), {}
    try:
        msgspec.convert(name, KeyName)
    except msgspec.ValidationError:
        errors["name"] = "say in 1 to 100 characters what the key is for"
    if not is_own_password(request.form.get("password", "")):
        errors["password"] = NOT_YOURS
    if errors:
        return _page(errors=errors), 422
    new = services().tracked_links.create(name, at=services().engine.clock(), by=person().email)
    return _page(new)


@pages.get(f"{_KEY}/rotate")
@needs("admin")
def confirm_rotate_tracking_key(key_number: int) -> ResponseReturnValue:
    """Ask before a key is replaced."""
    return _confirmation(_find(key_number), "rotate")


@pages.post(f"{_KEY}/rotate")
@needs("admin")
def rotate_tracking_key(key_number: int) -> ResponseReturnValue:
    """Replace a key, and show the new one, for the only time."""
    key = _find(key_number)
    if not is_own_password(request.form.get("password", "")):
        return _confirmation(key, "rotate", {"password": NOT_YOURS}), 422
    at, by = services().engine.clock(), person().email
    try:
        new = services().tracked_links.rotate(key_number, at=at, by=by)
    except Conflict:
        flash(f"“{key.name}” is replaced or revoked already.")
        return redirect(url_for("pages.tracked_links"))
    return _page(new)


@pages.get(f"{_KEY}/revoke")
@needs("admin")
def confirm_revoke_tracking_key(key_number: int) -> ResponseReturnValue:
    """Ask before the events of a key count no more."""
    return _confirmation(_find(key_number), "revoke")


@pages.post(f"{_KEY}/revoke")
@needs("admin")
def revoke_tracking_key(key_number: int) -> ResponseReturnValue:
    """Count no events of a key from now on."""
    at, by = services().engine.clock(), person().email
    key = services().tracked_links.revoke(key_number, at=at, by=by)
    link_reader().ring.forget()
    flash(f"“{key.name}” is revoked: its links lead on and count no more.")
    return redirect(url_for("pages.tracked_links"))


def _find(key_number: int) -> StoredTrackingKey:
    for key in services().tracked_links.all():
        if key.id == key_number:
            return key
    raise NotFound("tracking key", str(key_number))


def _confirmation(
    key: StoredTrackingKey, action: str, errors: Mapping[str, str] | None = None
) -> str:
    return render_template(
        "admin/tracking_key.html", key=key, action=action, errors=errors or {}, tab="links"
    )


def _page(new: NewTrackingKey | None = None, errors: Mapping[str, str] | None = None) -> str:
    links = services().tracked_links
    return render_template(
        "admin/tracked_links.html",
        keys=links.all(),
        hosts=request.form.get("hosts") or "\n".join(links.hosts()),
        name=request.form.get("name", "") if errors else "",
        public_url=current_app.config[PUBLIC_URL],
        encrypts=services().connections.encrypts,
        new=new,
        errors=errors or {},
        tab="links",
    )
