"""Audit log: each change with its author, its time, and the values before and after."""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, func, insert, or_, select

from storage.databases import Transaction
from storage.schema import audit_log


class AuditEntry(Struct, frozen=True):
    """Entry of the audit log.

    Attributes:
        id: grows with time.
        at: seconds since 1970.
        by: author: an e-mail address, ``key:NAME``, ``cli``.
        action: ``create``, ``configure``, ``move``, ``add``, ``remove``, ``revoke``, …
        subject: object of the change: ``experiment:KEY``, ``user:EMAIL``, ``key:ID`` or
            ``connection:KEY``.
        before: value before, as JSON decodes; None where there was none.
        after: value after.
    """

    id: int
    at: float
    by: str
    action: str
    subject: str
    before: Any
    after: Any


class AuditFilter(Struct, frozen=True):
    """Filter of entries: all parts that are not None have to match.

    Attributes:
        by: author, as the log names them.
        kind: kind of the object: ``experiment``, ``user``, ``key`` or ``connection``.
        text: part of the object's name or of the action, in any case.
        since: earliest moment.
        until: end, itself excluded.
    """

    by: str | None = None
    kind: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as SQL conditions."""
        conditions: list[ColumnElement[bool]] = []
        if self.by is not None:
            conditions.append(audit_log.c.by == self.by)
        if self.kind is not None:
            conditions.append(audit_log.c.subject.startswith(f"{self.kind}:", autoescape=True))
        if self.text is not None:
            text = self.text.lower()
            texts = (audit_log.c.subject, audit_log.c.action)
            conditions.append(or_(*(func.lower(t).contains(text, autoescape=True) for t in texts)))
        if self.since is not None:
            conditions.append(audit_log.c.at >= self.since)
        if self.until is not None:
            conditions.append(audit_log.c.at < self.until)
        return conditions


NO_FILTER = AuditFilter()


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
    filters: AuditFilter,
    *,
    subject: str | None,
    before_id: int | None,
    limit: int,
) -> list[AuditEntry]:
    """Read entries, the newest first."""
    query = select(audit_log).where(*filters.conditions())
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
    """List all authors of changes."""
    query = select(audit_log.c.by).distinct().order_by(audit_log.c.by)
    return list(transaction.execute(query).scalars())


def _packed(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _read(packed: str | None) -> Any:
    return None if packed is None else msgspec.json.decode(packed)
