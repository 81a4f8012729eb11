"""Context of a store: one database, its records of experiments, and transactions in it."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from sqlalchemy import select

from bandits.sampling import keyed_digests
from bandits.store.values import ExperimentRecord
from storage.databases import Database, SerializationConflict, Transaction
from storage.experiments import ExperimentTable
from storage.record_cache import RecordCache
from storage.schema import secrets as secrets_table

T = TypeVar("T")

_ATTEMPTS = 5
_SUBJECTS = "subjects"
_SECRET_BYTES = 32
_HASH_BYTES = 16


def hash_subjects(secret: bytes, subjects: Sequence[str]) -> list[bytes]:
    """Hash subjects under the database's secret; without it no hash names its subject."""
    return keyed_digests(secret, subjects, size=_HASH_BYTES)


class StoreContext:
    """The database, the records and the secrets that all parts of one store share."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self.database = database
        self.experiments = ExperimentTable()
        self.recent = RecordCache()

    @contextmanager
    def folding(self, key: str) -> Iterator[tuple[Transaction, ExperimentRecord]]:
        """Open a transaction that holds an experiment's lock, and read it as it is under that."""
        with self.database.writing() as transaction:
            number = self.experiments.record(transaction, key).id
            transaction.lock(f"fold {number}")
            yield transaction, self.experiments.record(transaction, key)
        self.recent.forget(key)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, again where another came between."""
        for _ in range(_ATTEMPTS - 1):
            try:
                with self.database.writing() as transaction:
                    return work(transaction)
            except SerializationConflict:
                continue
        with self.database.writing() as transaction:
            return work(transaction)

    def hash_subjects(self, subjects: Sequence[str]) -> list[bytes]:
        """Hash subjects with this database's key; the log stores nothing else of them."""
        return hash_subjects(self._subject_secret, subjects)

    @cached_property
    def _subject_secret(self) -> bytes:
        """The key that subjects are hashed with."""
        return self.secret(_SUBJECTS)

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes that this database keeps as `name`, made when first needed."""
        query = select(secrets_table.c.value).where(secrets_table.c.name == name)
        with self.database.reading() as transaction:
            value = transaction.execute(query).scalar_one_or_none()
        if value is None:
            row = (name, secrets.token_bytes(_SECRET_BYTES))
            columns = ("name", "value")
            with self.database.writing() as transaction:
                transaction.insert(secrets_table, columns, [row])
                value = transaction.execute(query).scalar_one()
        return bytes(value)
