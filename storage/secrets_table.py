"""Secrets that a database keeps for itself: random bytes by name."""

import secrets

from sqlalchemy import select

from storage.databases import Database
from storage.schema import secrets as secrets_table

_BYTES = 32


def read_secret(database: Database, name: str) -> bytes:
    """Return the 32 secret bytes that a database keeps as `name`, made when first needed."""
    query = select(secrets_table.c.value).where(secrets_table.c.name == name)
    with database.reading() as transaction:
        value = transaction.execute(query).scalar_one_or_none()
    if value is None:
        row = (name, secrets.token_bytes(_BYTES))
        with database.writing() as transaction:
            transaction.insert(secrets_table, ("name", "value"), [row])
            value = transaction.execute(query).scalar_one()
    return bytes(value)
