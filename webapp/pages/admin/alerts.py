"""Pages of alerts: each person's choice, webhooks and chats that are told, and the outbox."""

import secrets
from urllib.parse import urlsplit

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from storage.outgoing import AlertTarget, NewNotice, Notice, TargetKind
from webapp.notices.alert_kinds import ALERT_KINDS, AlertKind, target_alerts
from webapp.notices.alert_watch import ALERT
from webapp.pages import pages
from webapp.pages.access import needs, open_with_any_password, person
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.services import services

TARGET_KINDS = {
    "webhook": "Webhook, signed (Standard Webhooks)",
    "chat": "Chat: Slack, Mattermost, Google Chat or Teams",
}
_NOTICES = {
    "invitation": "Invitation",
    "reset": "Link for a new password",
    "weekly": "Weekly summary",
}
_STATES = {"waiting": "Waiting", "sending": "Sending", "sent": "Sent", "failed": "Not sent"}
_LONGEST_NAME = 60
_LONGEST_URL = 2000


class OutboxRow(Struct, frozen=True):
    """A row of the outbox in words."""

    notice: Notice
    subject: str
    recipient: str
    state: str


def own_alerts() -> dict[str, AlertKind]:
    """Return the kinds of alert that the person who is signed in may choose."""
    return {name: kind for name, kind in ALERT_KINDS.items() if person().may(kind.role)}


@pages.post("/settings/alerts/own")
@needs("viewer")
@open_with_any_password
def choose_alerts() -> ResponseReturnValue:
    """Save of what the person who is signed in wants to be told by mail."""
    chosen = set(request.form.getlist("alert")) & set(own_alerts())
    services().outgoing.alerts.choose(person().user.id, chosen, at=_now())
    flash("Saved.")
    return redirect(url_for("pages.account"))


@pages.get("/settings/alerts")
@needs("admin")
def alerts() -> ResponseReturnValue:
    """Show webhooks, chats, and what was sent."""
    return _page({})


@pages.post("/settings/alerts")
@needs("admin")
def add_alert_target() -> ResponseReturnValue:
    """Add a webhook, whose secret is shown this once, or a chat."""
    form, errors = request.form, {}
    name, url = form.get("name", "").strip(), form.get("url", "").strip()
    chosen = set(form.getlist("alert")) & set(target_alerts())
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        errors["name"] = f"enter a name of at most {_LONGEST_NAME} characters"
    if form.get("kind") not in TARGET_KINDS:
        errors["kind"] = "choose one"
    if not _is_address(url):
        errors["url"] = "enter an address that begins with https://"
    if not chosen:
        errors["alert"] = "choose at least one"
    if not is_own_password(form.get("password", "")):
        errors["password"] = NOT_YOURS
    if errors:
        return _page(errors), 422
    kind: TargetKind = "webhook" if form["kind"] == "webhook" else "chat"
    target = services().outgoing.alerts.add_target(
        name, kind, url, chosen, at=_now(), by=person().email
    )
    return _page({}, target)


@pages.post("/settings/alerts/<int:number>/test")
@needs("admin")
def send_test_alert(number: int) -> ResponseReturnValue:
    """Put a test for a webhook or chat into the outbox."""
    target = services().outgoing.alerts.target(number)
    content = {
        "alert": "test",
        "subject": "Test",
        "text": "Alerts reach you.",
        "path": "",
    }
    notice = NewNotice(f"test:{secrets.token_hex(8)}", f"target:{target.id}", ALERT, content)
    services().outgoing.outbox.add([notice], at=_now())
    flash(f"A test for {target.name} is on its way. Reload this page to see whether it arrived.")
    return redirect(url_for("pages.alerts"))


@pages.post("/settings/alerts/<int:number>/remove")
@needs("admin")
def remove_alert_target(number: int) -> ResponseReturnValue:
    """Remove a webhook or chat."""
    name = services().outgoing.alerts.remove_target(number, at=_now(), by=person().email)
    flash(f"{name} is told nothing any more.")
    return redirect(url_for("pages.alerts"))


def _page(errors: dict[str, str], new: AlertTarget | None = None) -> str:
    targets = services().outgoing.alerts.targets()
    is_refused = bool(errors)
    return render_template(
        "admin/alerts.html",
        targets=targets,
        target_kinds=TARGET_KINDS,
        alert_kinds=target_alerts(),
        rows=_rows(targets),
        new=new,
        name=request.form.get("name", "") if is_refused else "",
        url=request.form.get("url", "") if is_refused else "",
        kind=request.form.get("kind", "") if is_refused else "webhook",
        chosen=set(request.form.getlist("alert")) if is_refused else set(target_alerts()),
        encrypts=services().connections.encrypts,
        errors=errors,
        tab="alerts",
    )


def _rows(targets: list[AlertTarget]) -> list[OutboxRow]:
    names = {f"target:{target.id}": target.name for target in targets}
    names |= {f"user:{user.id}": user.email for user in services().accounts.users()}
    return [
        OutboxRow(
            notice,
            notice.content.get("subject") or _NOTICES.get(notice.kind, notice.kind),
            notice.content.get("email") or names.get(notice.target, "somebody removed"),
            _STATES[notice.state],
        )
        for notice in services().outgoing.outbox.latest()
    ]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    fits = url.isprintable() and " " not in url and len(url) <= _LONGEST_URL
    return (
        fits and parts.scheme in {"https", "http"} and bool(parts.hostname) and not parts.username
    )


def _now() -> float:
    return services().engine.clock()
