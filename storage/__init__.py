"""The store in a SQL database: SQLite or PostgreSQL."""

from storage.migrate import classify_unavailable, current, upgrade
from storage.store import SqlStore, open_store

__all__ = ["SqlStore", "classify_unavailable", "current", "open_store", "upgrade"]
