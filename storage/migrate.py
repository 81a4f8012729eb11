"""Migrations: bringing a database to the newest one.

Alembic is imported only where one is missing: that takes a tenth of the time of a command's start.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from bandits.errors import Unavailable
from storage.databases import open_database

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


def upgrade(database_url: str) -> str:
    """Run the migrations that are missing, all in one transaction; return the newest's name.

    Processes that do it at once wait for each other, and only the first finds work.

    Raises:
        InvalidInput: the URL is none of ours.
        Unavailable: the database cannot be reached, is locked, or was upgraded by a newer program;
            nothing changed.
    """
    target = open_database(database_url, create=True)
    try:
        with target.writing() as transaction:
            transaction.lock("migrations")
            revision = _revision(transaction.connection)
            if (revision or "") > newest():
                raise Unavailable(
                    f"the database is at migration {revision}, newer than this program, which knows"
                    f" {newest()}: install the version that wrote it, or a newer one"
                )
            if revision != newest():
                from storage.alembic_runner import run_migrations  # noqa: PLC0415 - see above

                run_migrations(transaction.connection)
    finally:
        target.close()
    return newest()


def current(database_url: str) -> str | None:
    """Return the migration that a database is at, None where it is empty.

    Raises:
        InvalidInput: the URL is none of ours.
        Unavailable: there is no such database, or it cannot be reached.
    """
    target = open_database(database_url)
    try:
        with target.reading() as transaction:
            return _revision(transaction.connection)
    finally:
        target.close()


def newest() -> str:
    """Return the newest migration: the number that its file's name begins with."""
    numbers = [path.name[1:5] for path in _VERSIONS.glob("r[0-9]*.py")]
    if not numbers:
        raise RuntimeError("the migrations are not installed")
    return max(numbers)


def _revision(connection: Connection) -> str | None:
    """Return the migration that Alembic has noted, None where it has noted none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
