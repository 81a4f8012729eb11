"""Store in a SQL database: SQLite or PostgreSQL."""

from storage.migrate import current, upgrade
from storage.store import SqlStore, open_store

__all__ = ["SqlStore", "current", "open_store", "upgrade"]
