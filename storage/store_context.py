"""Context of a store: its database, its experiments and its secrets, shared by all its parts."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TypeVar

from bandits.sampling import keyed_digests
from bandits.store.values import ExperimentRecord
from storage.databases import Database, Transaction, write_again
from storage.experiments import ExperimentStore, read_id
from storage.secrets_table import read_secret

T = TypeVar("T")

_SUBJECTS = "subjects"
_HASH_BYTES = 16


def subject_hasher(secret: bytes) -> Callable[[Sequence[str]], list[bytes]]:
    """Return the function that hashes subjects under a secret; without that no hash names any."""
    return partial(keyed_digests, secret, size=_HASH_BYTES)


def _fold_lock(experiment_id: int) -> str:
    return f"fold {experiment_id}"


def _work_under(
    work: Callable[[Transaction, Collection[int]], T],
    locked: Collection[int],
    transaction: Transaction,
) -> T:
    for experiment_id in sorted(locked):
        transaction.lock(_fold_lock(experiment_id))
    return work(transaction, locked)


class FoldLockNeeded(Exception):
    """Rows in the log give way to new ones, which needs the locks of their experiments' folds.

    Attributes:
        experiments: the experiments' numbers.
    """

    def __init__(self, experiments: Collection[int]) -> None:
        super().__init__(experiments)
        self.experiments = frozenset(experiments)


class StoreContext:
    """Database, experiments and secrets that all parts of one store share."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self.database = database
        self.experiments = ExperimentStore(database)

    @contextmanager
    def folding(self, key: str) -> Iterator[tuple[Transaction, ExperimentRecord]]:
        """Open a transaction that holds an experiment's lock, and read its record under it."""
        with self.database.writing() as transaction:
            transaction.lock(_fold_lock(read_id(transaction, key)))
            yield transaction, self.experiments.read(transaction, key)
        self.experiments.forget(key)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, again where another came between."""
        return write_again(self.database, work)

    def replace(self, work: Callable[[Transaction, Collection[int]], T]) -> T:
        """Do work as `write` does, and again under the locks of folds where it needs these.

        Args:
            work: gets the numbers of the experiments whose locks are held, at first of none. Where
                these are not enough it raises `FoldLockNeeded`.
        """
        locked: frozenset[int] = frozenset()
        while True:
            try:
                return self.write(partial(_work_under, work, locked))
            except FoldLockNeeded as error:
                locked |= error.experiments

    @cached_property
    def hash_subjects(self) -> Callable[[Sequence[str]], list[bytes]]:
        """The function that hashes subjects under this database's secret.

        The log stores nothing else of them.
        """
        return subject_hasher(self.secret(_SUBJECTS))

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes that this database keeps as `name`, made when first needed."""
        return read_secret(self.database, name)
