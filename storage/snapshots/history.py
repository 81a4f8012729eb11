"""What decisions of one experiment rested on, as a transaction sees it."""

from bandits.errors import NotFound
from bandits.store.records import ExperimentRecord, Snapshot
from bandits.versions import Configuration
from storage.databases import Transaction
from storage.experiments import ExperimentStore
from storage.snapshots.snapshots import read_snapshot


class SqlHistoryReader:
    """Configurations and snapshots of one experiment: `bandits.store.fold.Past`."""

    def __init__(
        self, transaction: Transaction, record: ExperimentRecord, experiments: ExperimentStore
    ) -> None:
        """Read through `transaction`."""
        self._transaction = transaction
        self._record = record
        self._experiments = experiments

    def configuration(self, version: int) -> Configuration:
        """Read one version of the configuration."""
        if version == self._record.configuration.version:
            return self._record.configuration
        return self._experiments.configuration(self._transaction, self._record.key, version)

    def snapshot(self, version: int) -> Snapshot | None:
        """Read one snapshot; None for version 0, when nothing was known."""
        if version == 0:
            return None
        snapshot = read_snapshot(self._transaction, self._record, version)
        if not snapshot.statistic:
            raise NotFound("snapshot", f"{self._record.key}/{version}")  # no longer kept
        return snapshot
