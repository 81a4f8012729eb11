"""Taking the log into snapshots, and reading these."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from bandits.store.fold import Fold, LogAudit
from bandits.store.values import ExperimentState, FoldBacklog, Snapshot, SnapshotPoint


class SnapshotPort(Protocol):
    """Where what is learned lives."""

    def fold(self, key: str, *, now: float) -> AbstractContextManager[Fold]:
        """Start a fold: take the experiment's lock and read what is due by `now`.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def audit(self, key: str, version: int | None = None) -> AbstractContextManager[LogAudit]:
        """Read the whole log of one experiment, consistently.

        Args:
            key: the experiment.
            version: read what this snapshot was made of; the newest unless given.

        Raises:
            NotFound: there is no such experiment or snapshot.
            NotDerivable: the snapshot knew of decisions that were erased or removed since.
        """
        ...

    def snapshot(self, key: str, version: int) -> Snapshot:
        """Read one snapshot.

        Raises:
            NotFound: there is none.
            NotDerivable: it knew of decisions that were erased since.
        """
        ...

    def standing(self, key: str, points: int) -> ExperimentState:
        """Read how an experiment stands, with at most `points` of its history.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def waiting(self, now: float) -> Mapping[int, FoldBacklog]:
        """Tell what waits for a fold, by `Record.id`; nothing of experiments where nothing does."""
        ...

    def history(self, key: str, points: int) -> list[SnapshotPoint]:
        """Read at most `points` snapshots for a chart, spread over time, the newest included."""
        ...
