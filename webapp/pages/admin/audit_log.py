"""Page of the audit log: every change of experiments, people and keys, searched and exported."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from storage.accounts import AccountStore
from storage.audit_log import AuditEntry, AuditFilter
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.history import ChangeEntry, change_entry
from webapp.pages.formatting import csv_response
from webapp.row_numbers import row_number
from webapp.services import services

KINDS = {
    "experiment": "Experiments",
    "draft": "Drafts",
    "user": "People",
    "key": "API keys",
    "connection": "Connections",
    "tracking_key": "Tracking keys",
    "link_hosts": "Websites of tracked links",
    "workspace": "Workspace",
    "mail_settings": "Mail server",
    "alert_target": "Webhooks and chats",
}
_PAGE = 50
_PORTION = 1000  # entries that an export reads at a time


class AuditLine(Struct, frozen=True):
    """One entry, and the name and address of its subject."""

    entry: ChangeEntry
    kind: str
    name: str
    address: str | None


@pages.get("/settings/audit-log")
@needs("admin")
def audit_log() -> ResponseReturnValue:
    """Show the changes, the newest first."""
    accounts = services().accounts
    changes = accounts.changes(
        filters=_audit_filter(request.args),
        before_id=request.args.get("before", type=row_number),
        limit=_PAGE + 1,
    )
    query = {k: v for k, v in request.args.items() if k != "before" and v}
    return render_template(
        "admin/audit_log.html",
        lines=[_line(change) for change in changes[:_PAGE]],
        query=query,
        newest="before" not in request.args,
        more=changes[_PAGE - 1].id if len(changes) > _PAGE else None,
        authors=accounts.authors(),
        kinds=KINDS,
        tab="changes",
    )


@pages.get("/settings/audit-log.csv")
@needs("admin")
def audit_log_csv() -> ResponseReturnValue:
    """Export the changes that fit the search, the newest first."""
    head = ["at", "by", "action", "subject", "before", "after"]
    changes = _read_changes(services().accounts, _audit_filter(request.args))
    return csv_response("audit-log.csv", head, map(_row, changes))


def _read_changes(accounts: AccountStore, search: AuditFilter) -> Iterator[AuditEntry]:
    """Read entries in portions, so that a long log never is in memory as a whole."""
    before = None
    while portion := accounts.changes(filters=search, before_id=before, limit=_PORTION):
        yield from portion
        before = portion[-1].id


def _row(change: AuditEntry) -> list[Any]:
    at = datetime.fromtimestamp(change.at, UTC).isoformat()
    return [
        at,
        change.by,
        change.action,
        change.subject,
        *(
            "" if v is None else msgspec.json.encode(v).decode()
            for v in (change.before, change.after)
        ),
    ]


def _audit_filter(query: Mapping[str, str]) -> AuditFilter:
    """Read the search; a field that cannot be read narrows nothing."""
    kind = query.get("kind", "")
    until = _start_of_day(query.get("until", ""))
    return AuditFilter(
        by=query.get("by") or None,
        kind=kind if kind in KINDS else None,
        text=query.get("q", "").strip() or None,
        since=_start_of_day(query.get("since", "")),
        until=None if until is None else until + timedelta(days=1).total_seconds(),
    )


def _start_of_day(text: str) -> float | None:
    """Return the start of a day in UTC, in seconds since 1970; None if it is no date."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _line(change: AuditEntry) -> AuditLine:
    kind, _, name = change.subject.partition(":")
    address = None
    if kind == "experiment":
        address = url_for("pages.history", key=name)
    elif kind == "draft":
        name = f"Draft “{msgspec.json.decode(change.before)['name'].strip() or 'Without a name'}”"
    elif kind == "key":
        name = (change.after or change.before or {}).get("name", f"number {name}")
    return AuditLine(change_entry(change), kind, name, address)
