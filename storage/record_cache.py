"""Experiments as they were a moment ago, checked by whoever writes under one.

To read a record for every single choice costs more than the choice. A record that was read within
the last second will do, as the transaction that writes checks it: what is committed was decided
under the configuration and in the state that hold at that moment. What was learned meanwhile is
taken up by the next choice.
"""

import time
from threading import Lock

from sqlalchemy import bindparam, select

from bandits.store import StaleRead
from bandits.store.values import ExperimentRecord
from storage.databases import Transaction
from storage.schema import experiments

SECONDS = 1.0

_NOW = select(
    experiments.c.state,
    experiments.c.configuration_version,
    experiments.c.shipped,
    experiments.c.learned_version,
).where(experiments.c.id == bindparam("experiment"))


class RecordCache:
    """The records that were read within the last second."""

    def __init__(self) -> None:
        """Know none yet."""
        self._lock = Lock()
        self._kept: dict[str, tuple[float, ExperimentRecord | None]] = {}

    def get(self, key: str) -> ExperimentRecord | None:
        """Return an experiment's record, None where it has to be read."""
        at, record = self._kept.get(key, (0.0, None))
        return record if time.monotonic() - at < SECONDS else None

    def keep(self, record: ExperimentRecord, begun: float) -> None:
        """Keep a record that was read; reading began at `begun` on the monotonic clock."""
        with self._lock:
            if begun >= self._kept.get(record.key, (0.0, None))[0]:
                self._kept[record.key] = (begun, record)

    def forget(self, key: str) -> None:
        """Have an experiment read again; what is being read at this moment is not kept."""
        with self._lock:
            self._kept[key] = (time.monotonic(), None)

    def check(self, transaction: Transaction, record: ExperimentRecord) -> None:
        """Make sure that a record still holds, as the transaction sees it.

        Raises:
            Outdated: its state or configuration has changed; it must be read again.
        """
        now = tuple(transaction.execute(_NOW, {"experiment": record.id}).one())
        then = (record.state, record.configuration.version, record.shipped)
        if now != (*then, record.learned_version):
            self.forget(record.key)
        if now[:3] != then:
            raise StaleRead
