"""Migrations: bringing a database to the newest one."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storage.databases import open_database

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(database_url: str) -> str:
    """Run the migrations that are missing, all in one transaction; return the newest's name.

    Processes that do it at once wait for each other, and only the first finds work.

    Raises:
        InvalidInput: the URL is none of ours.
        Unavailable: the database cannot be reached, or is locked; nothing changed.
    """
    target = open_database(database_url, create=True)
    try:
        with target.writing() as transaction:
            transaction.lock("migrations")
            command.upgrade(config(transaction.connection), "head")
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
            return MigrationContext.configure(transaction.connection).get_current_revision()
    finally:
        target.close()


def newest() -> str:
    """Return the newest migration."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    if head is None:
        raise RuntimeError("the migrations are not installed")
    return head


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration: the folder of migrations, and a connection."""
    alembic = Config()
    alembic.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    alembic.attributes["connection"] = connection
    return alembic
