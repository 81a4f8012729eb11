"""The databases: what the store asks of one, and how SQLite and PostgreSQL each give it."""

from storage.databases.database import (
    Database,
    Found,
    Raced,
    Row,
    Transaction,
    telling_failures,
)

__all__ = ["Database", "Found", "Raced", "Row", "Transaction", "telling_failures"]
