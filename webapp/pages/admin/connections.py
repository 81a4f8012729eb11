"""Pages of the connections: added by kind, checked, paused, rotated, deleted; refused events."""

import re
from collections.abc import Mapping

import msgspec
from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape
from msgspec import Struct

from bandits.errors import AlreadyExists, Fault, InvalidInput, NotFound
from storage.connections import Connection, NoEncryptionKey, Refusal
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.api_keys import GRACES
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.row_numbers import row_number
from webapp.services import services
from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.kind_registry import connection_kind, connection_kinds
from webapp.webhooks.connection_setup import (
    NewConnection,
    add_connection,
    configure_connection,
    rotate_connection,
)
from webapp.webhooks.receiver import receiver
from webapp.webhooks.refused_signals import replay_refusal, signal_text

_PAGE = 50
_DAY = 86_400
_EVENT_PAIR = re.compile(r"[:=]")
_MARKDOWN = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\[(?P<label>[^]]+)\]\([^)]*\)")


class ConnectionCheck(Struct, frozen=True):
    """One check of a connection: whether it is passed, None while that is open, and what it is."""

    passed: bool | None
    text: str


@pages.get("/settings/connections")
@needs("admin")
def connections() -> ResponseReturnValue:
    """List connections, and the kinds of which one may be added."""
    store = services().connections
    return render_template(
        "admin/connections.html",
        connections=store.all(),
        kinds=connection_kinds(),
        purposes={name: _markup(kind.purpose) for name, kind in connection_kinds().items()},
        encrypts=store.encrypts,
        tab="connections",
    )


@pages.get("/settings/connections/new/<kind>")
@needs("admin")
def new_connection(kind: str) -> ResponseReturnValue:
    """Show the form of a kind."""
    return _form(connection_kind(kind))


@pages.post("/settings/connections/new/<kind>")
@needs("admin")
def create_connection(kind: str) -> ResponseReturnValue:
    """Add a connection, and show its address and the secrets that were made, for the only time."""
    declared, key = connection_kind(kind), request.form.get("key", "").strip()
    values = _typed_values(declared, secret=True) | _typed_values(declared, secret=False)
    errors = {}
    try:
        metrics = _typed_metrics()
        if not is_own_password(request.form.get("password", "")):
            return _form(declared, {"password": NOT_YOURS}), 422
        at, by = services().engine.clock(), person().email
        new = add_connection(
            services().connections,
            kind,
            key,
            values,
            metrics=metrics,
            excludes_bounces="excludes_bounces" in request.form,
            at=at,
            by=by,
        )
    except InvalidInput as error:
        errors = _by_field(error.faults)
    except AlreadyExists:
        errors = {"key": "another connection has this name"}
    if errors:
        return _form(declared, errors), 422
    return _page(new.connection, new=new)


@pages.get("/settings/connections/<key:connection_key>")
@needs("admin")
def connection(connection_key: str) -> ResponseReturnValue:
    """Show a connection: its address, its state, and the metrics that its events feed."""
    return _page(services().connections.find(connection_key))


@pages.post("/settings/connections/<key:connection_key>")
@needs("admin")
def change_connection(connection_key: str) -> ResponseReturnValue:
    """Change the values of a connection that are not secret."""
    store = services().connections
    connection = store.find(connection_key)
    try:
        metrics = _typed_metrics()
        values = _typed_values(connection_kind(connection.kind), secret=False)
        at, by = services().engine.clock(), person().email
        configure_connection(
            store,
            connection_key,
            values,
            metrics=metrics,
            excludes_bounces="excludes_bounces" in request.form,
            at=at,
            by=by,
        )
    except InvalidInput as error:
        return _page(connection, errors=_by_field(error.faults)), 422
    flash("Saved.")
    return redirect(url_for("pages.connection", connection_key=connection_key))


@pages.get("/settings/connections/<key:connection_key>/test")
@needs("admin")
def check_connection(connection_key: str) -> ResponseReturnValue:
    """Check a connection: its secrets, its address, and what has arrived."""
    connection = services().connections.find(connection_key)
    kind = connection_kind(connection.kind)
    return render_template(
        "admin/check_connection.html",
        connection=connection,
        kind=kind,
        address=receiver().address(connection),
        checks=_checks(connection, kind),
        tab="connections",
    )


@pages.post("/settings/connections/<key:connection_key>/pause")
@needs("admin")
def pause_connection(connection_key: str) -> ResponseReturnValue:
    """Take no events for now."""
    at, by = services().engine.clock(), person().email
    services().connections.set_paused(connection_key, paused=True, at=at, by=by)
    flash(f"“{connection_key}” is paused.")
    return redirect(url_for("pages.connection", connection_key=connection_key))


@pages.post("/settings/connections/<key:connection_key>/resume")
@needs("admin")
def resume_connection(connection_key: str) -> ResponseReturnValue:
    """Take events again."""
    at, by = services().engine.clock(), person().email
    services().connections.set_paused(connection_key, paused=False, at=at, by=by)
    flash(f"“{connection_key}” takes events again.")
    return redirect(url_for("pages.connection", connection_key=connection_key))


@pages.get("/settings/connections/<key:connection_key>/rotate")
@needs("admin")
def confirm_rotate_connection(connection_key: str) -> ResponseReturnValue:
    """Ask for the new secrets, and how long those until now go on working."""
    return _rotation_form(services().connections.find(connection_key))


@pages.post("/settings/connections/<key:connection_key>/rotate")
@needs("admin")
def rotate_connection_secrets(connection_key: str) -> ResponseReturnValue:
    """Give a connection new secrets."""
    store = services().connections
    connection = store.find(connection_key)
    if not is_own_password(request.form.get("password", "")):
        return _rotation_form(connection, {"password": NOT_YOURS}), 422
    grace = request.form.get("grace", _DAY, type=int)
    values = _typed_values(connection_kind(connection.kind), secret=True)
    try:
        new = rotate_connection(
            store,
            connection_key,
            values,
            grace_seconds=grace if grace in GRACES else _DAY,
            at=services().engine.clock(),
            by=person().email,
        )
    except InvalidInput as error:
        return _rotation_form(connection, _by_field(error.faults)), 422
    return _page(new.connection, new=new)


@pages.get("/settings/connections/<key:connection_key>/delete")
@needs("admin")
def confirm_delete_connection(connection_key: str) -> ResponseReturnValue:
    """Ask before a connection is deleted."""
    connection = services().connections.find(connection_key)
    return render_template("admin/delete_connection.html", connection=connection, tab="connections")


@pages.post("/settings/connections/<key:connection_key>/delete")
@needs("admin")
def delete_connection(connection_key: str) -> ResponseReturnValue:
    """Delete a connection."""
    services().connections.delete(connection_key, at=services().engine.clock(), by=person().email)
    flash(f"“{connection_key}” is deleted: its sender’s events are refused from now on.")
    return redirect(url_for("pages.connections"))


@pages.get("/settings/connections/<key:connection_key>/refused/<int:refusal_id>")
@needs("admin")
def refused_event(connection_key: str, refusal_id: int) -> ResponseReturnValue:
    """Show what was sent as an event that did not fit."""
    store = services().connections
    connection = store.find(connection_key)
    text = _readable(signal_text(store.refusal_body(connection_key, refusal_id)))
    (refusal,) = store.refusals(connection_key, before=refusal_id + 1, limit=1)
    return render_template(
        "admin/refused_event.html",
        connection=connection,
        refusal=refusal,
        text=text,
        tab="connections",
    )


@pages.post("/settings/connections/<key:connection_key>/refused/<int:refusal_id>/replay")
@needs("admin")
def replay_refused_event(connection_key: str, refusal_id: int) -> ResponseReturnValue:
    """Take a refused event once more."""
    try:
        outcome = replay_refusal(services(), connection_key, refusal_id, by=person().email)
    except NotFound:
        flash("This event is gone: somebody else took it again, or it was too old.")
        return redirect(url_for("pages.connection", connection_key=connection_key))
    if outcome.refused:
        flash(f"It still does not fit: {outcome.refused[0].reason}.")
    elif outcome.unmatched:
        flash("The event waits for its decision now.")
    elif outcome.without_decision:
        flash("The event names no decision, so it counts for nothing.")
    else:
        flash("The event is counted." if outcome.recorded else "The event had been counted before.")
    return redirect(url_for("pages.connection", connection_key=connection_key))


def _form(kind: ConnectionKind, errors: Mapping[str, str] | None = None) -> str:
    return render_template(
        "admin/new_connection.html",
        kind=kind,
        purpose=_markup(kind.purpose),
        steps=[_markup(s) for s in kind.steps_at(receiver().address_of(kind.name, "NAME"))],
        typed=request.form,
        errors=errors or {},
        encrypts=services().connections.encrypts,
        tab="connections",
    )


def _page(
    connection: Connection,
    *,
    new: NewConnection | None = None,
    errors: Mapping[str, str] | None = None,
) -> str:
    before = request.args.get("before", type=row_number)
    refusals = services().connections.refusals(connection.key, before=before, limit=_PAGE + 1)
    kind = connection_kind(connection.kind)
    address = receiver().address(connection)
    return render_template(
        "admin/connection.html",
        connection=connection,
        kind=kind,
        labels={field.name: field.label for field in kind.fields},
        address=address,
        steps=[_markup(step) for step in kind.steps_at(address)],
        passing=_markup(kind.passing),
        retries=_markup(kind.retries),
        limits=_markup(kind.limits),
        generated=new.generated if new else {},
        is_new=new is not None,
        metrics_text="\n".join(f"{k} = {v}" for k, v in connection.metrics.items()),
        typed=request.form if errors else {},
        errors=errors or {},
        refusals=refusals[:_PAGE],
        more=_last(refusals) if len(refusals) > _PAGE else None,
        now=services().engine.clock(),
        tab="connections",
    )


def _last(refusals: list[Refusal]) -> int:
    return refusals[_PAGE - 1].id


def _rotation_form(connection: Connection, errors: Mapping[str, str] | None = None) -> str:
    kind = connection_kind(connection.kind)
    return render_template(
        "admin/rotate_connection.html",
        connection=connection,
        kind=kind,
        fields=[field for field in kind.fields if field.secret],
        graces=GRACES,
        errors=errors or {},
        tab="connections",
    )


def _typed_values(kind: ConnectionKind, *, secret: bool) -> dict[str, str]:
    names = [field.name for field in kind.fields if field.secret == secret]
    typed = {name: request.form.get(f"value-{name}", "").strip() for name in names}
    return {name: value for name, value in typed.items() if value}


def _typed_metrics() -> dict[str, str]:
    """Read a line for each event: its name, ``=``, and the metric that it feeds.

    Raises:
        InvalidInput: at ``/metrics``.
    """
    metrics = {}
    for line in request.form.get("metrics", "").splitlines():
        if not line.strip():
            continue
        parts = [part.strip() for part in _EVENT_PAIR.split(line)]
        if len(parts) != 2 or not all(parts):  # noqa: PLR2004 - an event and a metric
            raise InvalidInput.at("/metrics", f"write “event = metric” on each line, not “{line}”")
        metrics[parts[0]] = parts[1]
    return metrics


def _by_field(faults: tuple[Fault, ...]) -> dict[str, str]:
    """Return faults by the field's name in the form."""
    names = {"/key": "key", "/metrics": "metrics"}
    return {names.get(f.pointer, f.pointer.replace("/values/", "value-")): f.detail for f in faults}


def _checks(connection: Connection, kind: ConnectionKind) -> list[ConnectionCheck]:
    store, at = services().connections, services().engine.clock()
    checks = []
    try:
        store.open(connection.key, at=at)
        checks.append(ConnectionCheck(passed=True, text="The secrets can be read."))
    except NoEncryptionKey as error:
        checks.append(ConnectionCheck(passed=False, text=f"The secrets cannot be read: {error}."))
    encrypted = receiver().address(connection).startswith("https://")
    text = (
        "The address is encrypted (https)."
        if encrypted
        else (
            "The address is not encrypted. Most mailers deliver to https:// addresses alone: set"
            " BANDITS_PUBLIC_URL to the address that they reach this server at."
        )
    )
    checks.append(ConnectionCheck(passed=encrypted, text=text))
    if connection.paused:
        checks.append(
            ConnectionCheck(passed=False, text="The connection is paused: resume it first.")
        )
    if connection.rejected_at is not None and connection.rejected_at > (
        connection.delivered_at or 0.0
    ):
        text = f"The last delivery was refused: {connection.rejection}."
        checks.append(ConnectionCheck(passed=False, text=text))
    elif connection.delivered_at is None:
        text = f"Nothing has arrived yet. Send a test event at {kind.label}, then check again."
        checks.append(ConnectionCheck(passed=None, text=text))
    else:
        checks.append(ConnectionCheck(passed=True, text="The last delivery was verified."))
    if connection.event_at is None:
        text = "No event has named a decision yet: see “Add the decision to each email”."
        checks.append(ConnectionCheck(passed=None, text=text))
    else:
        checks.append(ConnectionCheck(passed=True, text="Events name decisions of ours."))
    return checks


def _readable(text: str) -> str:
    """Indent a JSON text; another one stays as it is."""
    try:
        return msgspec.json.format(text)
    except msgspec.DecodeError:
        return text


@pages.app_template_filter("kind_text")
def _markup(text: str) -> Markup:
    """Turn the little Markdown that kinds use (code, strong, links) into HTML, all else escaped."""
    html, end = Markup(), 0
    for match in _MARKDOWN.finditer(text):
        html += escape(text[end : match.start()])
        if match["code"]:
            html += Markup("<code>{}</code>").format(match["code"])
        elif match["strong"]:
            html += Markup("<strong>{}</strong>").format(match["strong"])
        else:
            html += escape(match["label"])
        end = match.end()
    return html + escape(text[end:])
