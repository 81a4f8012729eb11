"""What every part of the store works with: one database, and transactions in it."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from sqlalchemy import select

from bandits.store.values import ExperimentRecord
from storage.databases import Database, SerializationConflict, Transaction
from storage.experiments import ExperimentStore
from storage.log import append_decisions
from storage.record_cache import RecordCache
from storage.schema import secrets as secrets_table

T = TypeVar("T")

_ATTEMPTS = 5
_SUBJECTS = "subjects"
_SECRET_BYTES = 32


class StoreBase:
    """A part of the store."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self.database = database
        self._experiments = ExperimentStore()
        self._recent = RecordCache()

    @contextmanager
    def _folding(self, key: str) -> Iterator[tuple[Transaction, ExperimentRecord]]:
        """Open a transaction that holds an experiment's lock, and read it as it is under that."""
        with self.database.writing() as transaction:
            number = self._experiments.record(transaction, key).id
            transaction.lock(f"fold {number}")
            yield transaction, self._experiments.record(transaction, key)
        self._recent.forget(key)

    def _hashed(self, subject_id: str) -> bytes:
        return append_decisions.hash_subjects(self._subject_secret, [subject_id])[0]

    def _write(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, again where another came between."""
        for _ in range(_ATTEMPTS - 1):
            try:
                with self.database.writing() as transaction:
                    return work(transaction)
            except SerializationConflict:
                continue
        with self.database.writing() as transaction:
            return work(transaction)

    @cached_property
    def _subject_secret(self) -> bytes:
        """The key that subjects are hashed with."""
        return self.secret(_SUBJECTS)

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes that this database keeps as `name`, made when first needed."""
        query = select(secrets_table.c.value).where(secrets_table.c.name == name)
        with self.database.reading() as transaction:
            known = transaction.execute(query).scalar_one_or_none()
        if known is None:
            made = (name, secrets.token_bytes(_SECRET_BYTES))
            columns = ("name", "value")
            with self.database.writing() as transaction:
                transaction.insert(secrets_table, columns, [made])
                known = transaction.execute(query).scalar_one()
        return bytes(known)
