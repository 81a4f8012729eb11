"""The databases: what the store asks of one, and how SQLite and PostgreSQL each give it."""

from storage.databases.database import (
    BulkInsert,
    Database,
    Found,
    Row,
    SerializationConflict,
    Transaction,
    translate_errors,
)

__all__ = [
    "BulkInsert",
    "Database",
    "Found",
    "Row",
    "SerializationConflict",
    "Transaction",
    "translate_errors",
]
