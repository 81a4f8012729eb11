"""Which database a URL means."""

from storage.databases import Database
from storage.databases.postgresql import Postgresql
from storage.databases.sqlite import Sqlite
from storage.settings import parse_database_url


def open_database(database_url: str, *, create: bool = False) -> Database:
    """Prepare the database of a URL; it connects on first use.

    Args:
        database_url: which one.
        create: make SQLite's file where there is none, rather than fail.

    Raises:
        InvalidInput: the URL is none of ours, or the driver for it is not installed.
    """
    url = parse_database_url(database_url)
    return Sqlite(url, create=create) if url.drivername.startswith("sqlite") else Postgresql(url)
