"""Drafts of experiments: input that was typed so far, valid or not.

Here a draft is text with a version; the pages know what it means. A draft that is complete becomes
an experiment, and ends.
"""

import secrets

from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import delete, insert, select, update

from bandits.errors import NotFound, StaleEdit
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import drafts

_ID_BYTES = 9
# In the order of the fields.
_COLUMNS = ("id", "version", "body", "created_at", "created_by", "changed_at", "changed_by")


class Draft(Struct, frozen=True):
    """Input that was typed so far.

    Attributes:
        id: random, part of its address.
        version: grows with every save.
        body: JSON.
        changed_by: author of the last save.
    """

    id: str
    version: int
    body: str
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str


class DraftTable:
    """Drafts of one database.

    Times are seconds since 1970; `by` is the author. Any method may raise `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `SqlStore.drafts` is one."""
        self._database = database

    def add(self, body: str, *, at: float, by: str) -> Draft:
        """Keep a new draft."""
        draft = Draft(secrets.token_urlsafe(_ID_BYTES), 1, body, at, by, at, by)
        with self._database.writing() as transaction:
            transaction.execute(insert(drafts).values(_columns(draft)))
        return draft

    def read(self, draft_id: str) -> Draft:
        """Read a draft.

        Raises:
            NotFound: there is none of this id.
        """
        with self._database.reading() as transaction:
            return _read(transaction, draft_id)

    def all(self) -> list[Draft]:
        """Read every draft, the one that was changed last first."""
        query = select(drafts).order_by(drafts.c.changed_at.desc(), drafts.c.id)
        with self._database.reading() as transaction:
            return [_draft(row) for row in transaction.execute(query)]

    def save(self, draft_id: str, body: str, *, version: int, at: float, by: str) -> Draft:
        """Replace the body, as of `version`.

        Raises:
            NotFound: there is none of this id.
            StaleEdit: it was saved since that version.
        """
        condition = (drafts.c.id == draft_id) & (drafts.c.version == version)
        values = {"version": version + 1, "body": body, "changed_at": at, "changed_by": by}
        with self._database.writing() as transaction:
            query = update(drafts).where(condition).values(values).returning(drafts.c.id)
            changed = transaction.execute(query).all()
            stored = _read(transaction, draft_id)
        if not changed:
            raise StaleEdit(draft_id, version, stored.version)
        return stored

    def remove(self, draft_id: str, *, at: float, by: str) -> None:
        """End a draft; the audit log keeps its body.

        Raises:
            NotFound: there is none of this id.
        """
        with self._database.writing() as transaction:
            before = _read(transaction, draft_id)
            transaction.execute(delete(drafts).where(drafts.c.id == draft_id))
            record_change(
                transaction, "remove", f"draft:{draft_id}", at=at, by=by, before=before.body
            )


def _read(transaction: Transaction, draft_id: str) -> Draft:
    row = transaction.execute(select(drafts).where(drafts.c.id == draft_id)).one_or_none()
    if row is None:
        raise NotFound("draft", draft_id)
    return _draft(row)


def _draft(row: NamedRow) -> Draft:
    return Draft(*(getattr(row, name) for name in _COLUMNS))


def _columns(draft: Draft) -> dict[str, object]:
    return dict(zip(_COLUMNS, astuple(draft), strict=True))
