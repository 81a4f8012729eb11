"""The audit log: who changed what and when, with before and after."""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import insert, select

from storage.databases import Transaction
from storage.tables import audit_log


class Change(Struct, frozen=True):
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


def note(  # noqa: PLR0913 - who, what, when and the rest of an entry
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
    transaction: Transaction, *, subject: str | None, before_id: int | None, limit: int
) -> list[Change]:
    """Read entries, the newest first."""
    query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit_log.c.subject == subject)
    if before_id is not None:
        query = query.where(audit_log.c.id < before_id)
    return [
        Change(row.id, row.at, row.by, row.action, row.subject, _read(row.before), _read(row.after))
        for row in transaction.execute(query)
    ]


def _packed(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _read(packed: str | None) -> Any:
    return None if packed is None else msgspec.json.decode(packed)
