"""Drafts that people leave and resume: what was typed so far, whether or not it fits yet.

What a draft means is the pages' business; here it is text with a version. A draft that is complete
becomes an experiment, and ends.
"""

import secrets

from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from bandits.errors import NotFound, StaleEdit
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import drafts

_ID_BYTES = 9


class Draft(Struct, frozen=True):
    """What was typed so far.

    Attributes:
        id: what its address says; made at random.
        version: grows with every save.
        body: JSON.
        changed_by: who saved it last.
    """

    id: str
    version: int
    body: str
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str


class DraftTable:
    """The drafts of one database.

    Times are seconds since 1970; `by` names who does it. Any method may raise `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `SqlStore.drafts` makes one."""
        self._database = database

    def add(self, body: str, *, at: float, by: str) -> Draft:
        """Keep a new draft."""
        made = Draft(secrets.token_urlsafe(_ID_BYTES), 1, body, at, by, at, by)
        with self._database.writing() as transaction:
            transaction.execute(insert(drafts).values(_columns(made)))
        return made

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
        """Replace what was typed, as of `version`.

        Raises:
            NotFound: there is none of this id.
            StaleEdit: it was saved since that version.
        """
        mine = (drafts.c.id == draft_id) & (drafts.c.version == version)
        values = {"version": version + 1, "body": body, "changed_at": at, "changed_by": by}
        with self._database.writing() as transaction:
            query = update(drafts).where(mine).values(values).returning(drafts.c.id)
            changed = transaction.execute(query).all()
            stored = _read(transaction, draft_id)
        if not changed:
            raise StaleEdit(draft_id, version, stored.version)
        return stored

    def remove(self, draft_id: str, *, at: float, by: str) -> None:
        """End a draft; the audit log keeps what it said.

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
    return Draft(*(getattr(row, name) for name in Draft.__struct_fields__))


def _columns(draft: Draft) -> dict[str, object]:
    return {name: getattr(draft, name) for name in Draft.__struct_fields__}
