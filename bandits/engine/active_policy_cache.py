"""What decides for experiments now, and what decided in the past."""

from threading import Lock

import msgspec

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.fold import rebuild
from bandits.errors import NotDerivable
from bandits.statistics import dump
from bandits.store import Store
from bandits.store.values import ExperimentRecord, Snapshot
from bandits.versions import Configuration


class ActivePolicyCache:
    """Experiments made ready to decide, the newest of each kept."""

    def __init__(self, store: Store) -> None:
        """Keep none yet; they are read from `store`."""
        self._store = store
        self._held: dict[str, tuple[tuple[int, int], ActivePolicy]] = {}
        self._renewing = Lock()
        self._rebuilt: tuple[str, int, Snapshot] | None = None
        self._rebuilding = Lock()

    def of(self, record: ExperimentRecord) -> ActivePolicy:
        """Return what decides under a record; it is made once for each version."""
        moment = (record.configuration.version, record.learned_version)
        held = self._held.get(record.key)
        if held is None or held[0] != moment:
            with self._renewing:  # one thread reads the new snapshot, the others wait for it
                held = self._held.get(record.key)
                if held is None or held[0] != moment:
                    live = self._newest(record)
                    held = self._held[record.key] = (moment, live)
        return held[1]

    def _newest(self, record: ExperimentRecord) -> ActivePolicy:
        try:
            snapshot = self._snapshot(record.key, record.learned_version)
        except NotDerivable:  # somebody was erased since `record` was read: there is a newer one
            return self._newest(self._store.experiments.record(record.key))
        return self._live(record, record.configuration, snapshot)

    def _live(
        self, record: ExperimentRecord, configuration: Configuration, snapshot: Snapshot | None
    ) -> ActivePolicy:
        folded = configuration
        if snapshot is not None and snapshot.configuration_version != configuration.version:
            folded = self._store.experiments.configuration(
                record.key, snapshot.configuration_version
            )
        return ActivePolicy(record.key, record.salt, configuration, snapshot, folded)

    def _snapshot(self, key: str, version: int) -> Snapshot | None:
        return None if version == 0 else self._store.snapshots.snapshot(key, version)

    def then(
        self, record: ExperimentRecord, configuration: Configuration, version: int
    ) -> ActivePolicy:
        """Return what decided in the past.

        Args:
            record: the experiment.
            configuration: as it was declared then.
            version: the snapshot's.

        Raises:
            NotDerivable: what was learned then cannot be summed again.
        """
        snapshot = self._snapshot_then(record.key, version)
        return self._live(record, configuration, snapshot)

    def _snapshot_then(self, key: str, version: int) -> Snapshot | None:
        """Read a snapshot of the past; where its arrays are no longer kept, sum the log anew."""
        snapshot = self._snapshot(key, version)
        if snapshot is None or snapshot.statistic:
            return snapshot
        with self._rebuilding:  # one at a time: it goes through the log
            if self._rebuilt is None or self._rebuilt[:2] != (key, version):
                with self._store.snapshots.audit(key, version) as audit:
                    statistic = rebuild(audit)[0]
                made = msgspec.structs.replace(snapshot, statistic=dump(statistic))
                self._rebuilt = (key, version, made)
            return self._rebuilt[2]
