"""Experiments as the store shows them: every method one transaction."""

import time
from collections.abc import Sequence

from bandits.store.values import ExperimentRecord, State
from bandits.versions import Configuration
from storage.store_context import StoreContext


class ExperimentStore:
    """Experiments, their configurations and their states: `bandits.store.ExperimentPort`."""

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context

    def create(
        self, configuration: Configuration, *, salt: bytes, at: float, by: str
    ) -> ExperimentRecord:
        """Add a draft."""
        return self._context.write(
            lambda c: self._context.experiments.create(c, configuration, salt=salt, at=at, by=by)
        )

    def record(self, key: str) -> ExperimentRecord:
        """Read an experiment."""
        begun = time.monotonic()
        with self._context.database.reading() as transaction:
            record = self._context.experiments.record(transaction, key)
        self._context.recent.keep(record, begun)
        return record

    def recent(self, key: str) -> ExperimentRecord:
        """Read an experiment as it was within the last second, to choose under it."""
        return self._context.recent.get(key) or self.record(key)

    def records(self) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        with self._context.database.reading() as transaction:
            return self._context.experiments.records(transaction)

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
        record = self._context.write(
            lambda c: self._context.experiments.configure(
                c, key, configuration, allowed=allowed, at=at, by=by
            )
        )
        self._context.recent.forget(key)
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
        record = self._context.write(
            lambda c: self._context.experiments.move(
                c, key, to, allowed=allowed, at=at, by=by, shipped=shipped
            )
        )
        self._context.recent.forget(key)
        return record

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration."""
        with self._context.database.reading() as transaction:
            return self._context.experiments.configuration(transaction, key, version)
