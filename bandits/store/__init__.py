"""The store that the engine needs: a port. Tables and SQL are in the package ``storage``.

Times are seconds since 1970-01-01 UTC. The log is append-only: decisions, events, activations and
cancellations are inserted and never changed. Each commit of such rows writes one *batch* row per
experiment; a fold takes batches that are due into what is learned and marks them, in the
transaction that inserts the next snapshot.
"""

from typing import Protocol

from bandits.store.deletion import DeletionPort
from bandits.store.experiments import ExperimentPort
from bandits.store.log import LogPort
from bandits.store.snapshots import SnapshotPort


class StaleRead(Exception):
    """What is written rests on what was read, and that has changed since; read it again."""


class Store(ExperimentPort, LogPort, SnapshotPort, DeletionPort, Protocol):
    """Where experiments, the log and the snapshots live.

    Every method may raise `Unavailable`; then nothing was stored.
    """
