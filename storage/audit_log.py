"""The audit log: who changed what and when, with before and after."""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, func, insert, or_, select

from storage.databases import Transaction
from storage.schema import audit_log


class AuditEntry(Struct, frozen=True):
    """One entry of the audit log.

    Attributes:
        id: grows with time.
        at: seconds since 1970.
        by: who did it: an e-mail address, ``key:NAME``, ``cli``.
        action: ``create``, ``configure``, ``move``, ``add``, ``remove``, ``revoke``, …
        subject: what it was done to: ``experiment:KEY``, ``user:EMAIL`` or ``key:ID``.
        before: what it was, as JSON decodes; None where there was nothing.
        after: what it became.
    """

    id: int
    at: float
    by: str
    action: str
    subject: str
    before: Any
    after: Any


class AuditFilter(Struct, frozen=True):
    """Which entries are asked for; each part narrows them, None does not.

    Attributes:
        by: by whom, as the log calls them.
        kind: what was changed: ``experiment``, ``user`` or ``key``.
        text: in what it was done to, or in the action, whatever the case.
        since: not before this moment.
        until: before this moment.
    """

    by: str | None = None
    kind: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Say in SQL what is asked for."""
        found: list[ColumnElement[bool]] = []
        if self.by is not None:
            found.append(audit_log.c.by == self.by)
        if self.kind is not None:
            found.append(audit_log.c.subject.startswith(f"{self.kind}:", autoescape=True))
        if self.text is not None:
            wanted = self.text.lower()
            texts = (audit_log.c.subject, audit_log.c.action)
            found.append(or_(*(func.lower(t).contains(wanted, autoescape=True) for t in texts)))
        if self.since is not None:
            found.append(audit_log.c.at >= self.since)
        if self.until is not None:
            found.append(audit_log.c.at < self.until)
        return found


EVERYTHING = AuditFilter()


def record_change(  # noqa: PLR0913 - who, what, when and the rest of an entry
    transaction: Transaction,
    action: str,
    subject: str,
    *,
    at: float,
    by: str,
    before: object = None,
    after: object = None,
) -> None:
    """Add an entry, in the transaction of the change itself."""
    row = {
        "at": at,
        "by": by,
        "action": action,
        "subject": subject,
        "before": _packed(before),
        "after": _packed(after),
    }
    transaction.execute(insert(audit_log).values(row))


def read_changes(
    transaction: Transaction,
    sought: AuditFilter,
    *,
    subject: str | None,
    before_id: int | None,
    limit: int,
) -> list[AuditEntry]:
    """Read entries, the newest first."""
    query = select(audit_log).where(*sought.conditions())
    query = query.order_by(audit_log.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit_log.c.subject == subject)
    if before_id is not None:
        query = query.where(audit_log.c.id < before_id)
    return [
        AuditEntry(
            row.id, row.at, row.by, row.action, row.subject, _read(row.before), _read(row.after)
        )
        for row in transaction.execute(query)
    ]


def authors(transaction: Transaction) -> list[str]:
    """List who ever changed something."""
    query = select(audit_log.c.by).distinct().order_by(audit_log.c.by)
    return list(transaction.execute(query).scalars())


def _packed(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _read(packed: str | None) -> Any:
    return None if packed is None else msgspec.json.decode(packed)
