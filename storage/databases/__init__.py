"""The databases: what the store asks of one, and how SQLite and PostgreSQL each give it."""

from storage.databases.database import (
    Appending,
    Database,
    Found,
    Raced,
    Row,
    Transaction,
    telling_failures,
)

__all__ = ["Appending", "Database", "Found", "Raced", "Row", "Transaction", "telling_failures"]
