"""The audit log: every change of experiments, people and keys, searched and exported."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from storage.accounts import AccountStore
from storage.audit_log import AuditEntry, AuditFilter
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.experiment.history import ChangeEntry, entry
from webapp.pages.formatting import csv_response
from webapp.services import services

KINDS = {"experiment": "Experiments", "draft": "Drafts", "user": "People", "key": "API keys"}
_PAGE = 50
_PORTION = 1000  # entries that an export reads at a time


class AuditLine(Struct, frozen=True):
    """One entry, and what it was done to."""

    entry: ChangeEntry
    kind: str
    name: str
    address: str | None


@pages.get("/settings/audit-log")
@needs("admin")
def audit_log() -> ResponseReturnValue:
    """Show what was changed, the newest first."""
    accounts = services().accounts
    found = accounts.changes(
        filters=_sought(request.args),
        before_id=request.args.get("before", type=int),
        limit=_PAGE + 1,
    )
    asked = {k: v for k, v in request.args.items() if k != "before" and v}
    return render_template(
        "audit_log.html",
        lines=[_line(change) for change in found[:_PAGE]],
        asked=asked,
        newest="before" not in request.args,
        more=found[_PAGE - 1].id if len(found) > _PAGE else None,
        authors=accounts.authors(),
        kinds=KINDS,
        tab="changes",
    )


@pages.get("/settings/audit-log.csv")
@needs("admin")
def audit_log_csv() -> ResponseReturnValue:
    """Export what was changed and fits the search, the newest first."""
    head = ["at", "by", "action", "subject", "before", "after"]
    found = _every(services().accounts, _sought(request.args))
    return csv_response("audit-log.csv", head, map(_row, found))


def _every(accounts: AccountStore, sought: AuditFilter) -> Iterator[AuditEntry]:
    """Read entries in portions, so that a long log never is in memory as a whole."""
    before = None
    while portion := accounts.changes(filters=sought, before_id=before, limit=_PORTION):
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


def _sought(given: Mapping[str, str]) -> AuditFilter:
    """Read the search; what cannot be read narrows nothing."""
    kind = given.get("kind", "")
    until = _day(given.get("until", ""))
    return AuditFilter(
        by=given.get("by") or None,
        kind=kind if kind in KINDS else None,
        text=given.get("q", "").strip() or None,
        since=_day(given.get("since", "")),
        until=None if until is None else until + timedelta(days=1).total_seconds(),
    )


def _day(text: str) -> float | None:
    """Return when a day starts in UTC."""
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
    return AuditLine(entry(change), kind, name, address)
