"""Workspace: the name that pages and mails show."""

from sqlalchemy import delete, insert, select

from storage.audit_log import record_change
from storage.databases import Database
from storage.schema import workspace

PRODUCT = "Bandits"  # is shown until somebody chooses a name
_ONLY = 1  # its number


class WorkspaceStore:
    """The workspace of one database."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    def name(self) -> str:
        """Read the name, the product's where nobody chose one."""
        with self._database.reading() as transaction:
            return transaction.execute(select(workspace.c.name)).scalar_one_or_none() or PRODUCT

    def rename(self, name: str, *, at: float, by: str) -> None:
        """Replace the name; an empty one is the product's."""
        before = {"name": self.name()}
        with self._database.writing() as transaction:
            transaction.execute(delete(workspace))
            transaction.execute(insert(workspace).values(id=_ONLY, name=name))
            after = {"name": name or PRODUCT}
            record_change(
                transaction,
                "configure",
                f"workspace:{_ONLY}",
                at=at,
                by=by,
                before=before,
                after=after,
            )
