"""The store: every method one transaction, put together from the parts of this package."""

import time
from collections.abc import Sequence

from bandits.store.values import ExperimentRecord, State
from bandits.versions import Configuration
from storage.accounts import AccountStore
from storage.databases import Database
from storage.databases.url import open_database
from storage.deletion.subject_store import SubjectStore
from storage.drafts import DraftTable
from storage.log.decision_log import DecisionLog
from storage.snapshots.snapshot_store import SnapshotStore


def open_store(database_url: str) -> "SqlStore":
    """Prepare the store in a database; it connects on first use.

    Raises:
        InvalidInput: the URL is none of ours.
    """
    return SqlStore(open_database(database_url))


class SqlStore(DecisionLog, SnapshotStore, SubjectStore):
    """Experiments, the log and the snapshots in a SQL database: `bandits.store.Store`.

    Its methods say what they do there. Any of them may raise `Unavailable`, also where
    `storage.upgrade` has not been run; then nothing was stored.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        super().__init__(database)
        self.accounts = AccountStore(database)
        self.drafts = DraftTable(database)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.database.close()

    # Experiments

    def create(
        self, configuration: Configuration, *, salt: bytes, at: float, by: str
    ) -> ExperimentRecord:
        """Add a draft."""
        return self._write(
            lambda c: self._experiments.create(c, configuration, salt=salt, at=at, by=by)
        )

    def record(self, key: str) -> ExperimentRecord:
        """Read an experiment."""
        begun = time.monotonic()
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
        self._recent.keep(record, begun)
        return record

    def recent(self, key: str) -> ExperimentRecord:
        """Read an experiment as it was within the last second, to choose under it."""
        return self._recent.get(key) or self.record(key)

    def records(self) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        with self.database.reading() as transaction:
            return self._experiments.records(transaction)

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Store the next version of a configuration."""
        record = self._write(
            lambda c: self._experiments.configure(
                c, key, configuration, allowed=allowed, at=at, by=by
            )
        )
        self._recent.forget(key)
        return record

    def move(  # noqa: PLR0913 - as the port declares it
        self,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
    ) -> ExperimentRecord:
        """Change an experiment's state."""
        record = self._write(
            lambda c: self._experiments.move(
                c, key, to, allowed=allowed, at=at, by=by, shipped=shipped
            )
        )
        self._recent.forget(key)
        return record

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration."""
        with self.database.reading() as transaction:
            return self._experiments.configuration(transaction, key, version)
