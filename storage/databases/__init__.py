"""Databases: SQLite and PostgreSQL behind one interface, opened by a URL."""

from storage.databases.database import (
    STATEMENTS_KEPT,
    BulkInsert,
    Database,
    DatabaseProgress,
    NamedRow,
    ReadOnlyDatabase,
    Row,
    SerializationConflict,
    Transaction,
    translate_errors,
    write_again,
)
from storage.databases.postgresql import Postgresql
from storage.databases.sqlite import Sqlite
from storage.settings import parse_database_url

__all__ = [
    "STATEMENTS_KEPT",
    "BulkInsert",
    "Database",
    "DatabaseProgress",
    "NamedRow",
    "ReadOnlyDatabase",
    "Row",
    "SerializationConflict",
    "Transaction",
    "open_database",
    "translate_errors",
    "write_again",
]


def open_database(database_url: str, *, create: bool = False) -> Database:
    """Prepare the database of a URL; it connects on first use.

    Args:
        database_url: of SQLite's file or of PostgreSQL's server.
        create: create the SQLite file where there is none, rather than fail.

    Raises:
        InvalidInput: the URL is none of ours, or the driver for it is not installed.
    """
    url = parse_database_url(database_url)
    return Sqlite(url, create=create) if url.drivername.startswith("sqlite") else Postgresql(url)
