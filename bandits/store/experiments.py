"""Reading and changing experiments."""

from collections.abc import Sequence
from typing import Protocol

from bandits.store.values import ExperimentRecord, State
from bandits.versions import Configuration


class ExperimentPort(Protocol):
    """Where experiments and their configurations live."""

    def create(
        self, configuration: Configuration, *, salt: bytes, at: float, by: str
    ) -> ExperimentRecord:
        """Add a draft.

        Raises:
            AlreadyExists: its key is taken.
        """
        ...

    def record(self, key: str) -> ExperimentRecord:
        """Read an experiment.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def recent(self, key: str) -> ExperimentRecord:
        """Read an experiment as it was within the last second, to choose under it.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def records(self) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        ...

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Store the next version of a configuration; earlier ones stay for receipts.

        Raises:
            NotFound: there is none of this key.
            StaleEdit: the stored version is not the one before this.
            WrongState: its state is not one of `allowed`.
        """
        ...

    def move(  # noqa: PLR0913 - a change, and who makes it when
        self,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
    ) -> ExperimentRecord:
        """Change an experiment's state; `started_at` and `stopped_at` are set the first time.

        Args:
            key: the experiment.
            to: the new state.
            allowed: the states from which it may be taken.
            at: when, seconds since 1970.
            by: who, for the audit log.
            shipped: the arm that it goes on sending from now on; as it was unless given.

        Raises:
            NotFound: there is none of this key.
            WrongState: its state is not one of `allowed`.
        """
        ...

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration.

        Raises:
            NotFound: there is none.
        """
        ...
