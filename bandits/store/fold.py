"""What a store hands to whoever folds, audits or removes: the log in order, and where to save."""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from bandits.store.values import (
    DataQualityCounts,
    DecisionColumns,
    ExperimentRecord,
    FoldIncrement,
    RetainedSums,
    Snapshot,
)
from bandits.versions import Configuration


class HistoryReader(Protocol):
    """What decisions of one experiment rested on, read in the same transaction as they are."""

    def configuration(self, version: int) -> Configuration:
        """Read one version of the configuration.

        Raises:
            NotFound: there is none.
        """
        ...

    def snapshot(self, version: int) -> Snapshot | None:
        """Read one snapshot; None for version 0, when nothing was known.

        Raises:
            NotFound: there is none, or it is no longer kept.
        """
        ...


class Fold(Protocol):
    """One fold in progress, under the experiment's lock; leaving it unsaved changes nothing."""

    @property
    def record(self) -> ExperimentRecord:
        """The experiment, read under the lock."""
        ...

    @property
    def previous(self) -> Snapshot | None:
        """The newest snapshot, None before the first."""
        ...

    @property
    def due(self) -> FoldIncrement | None:
        """What is to be taken in, None where nothing changed.

        A store may take a long queue in parts, so that writers need not wait long: fold again
        until there is nothing left.
        """
        ...

    @property
    def more(self) -> bool:
        """Whether a fold right after this one would find more that is due by the same time."""
        ...

    @property
    def history(self) -> HistoryReader:
        """What decisions rested on."""
        ...

    def learned(self) -> Iterator[DecisionColumns]:
        """Go through everything that is learned once this fold is saved, in portions."""
        ...

    def pending(self) -> Iterator[DecisionColumns]:
        """Go through everything that is sent and not learned once it is saved, in portions."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Mark the batches as folded and insert the snapshot, in this transaction."""
        ...


class Removal(Protocol):
    """Some old decisions on their way out, under the experiment's lock.

    Leaving it unsaved removes nothing. No fold will ever need any of them again.
    """

    @property
    def record(self) -> ExperimentRecord:
        """The experiment, read under the lock."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot, which knows of all of them."""
        ...

    @property
    def retained(self) -> RetainedSums | None:
        """What was removed earlier, None where nothing was."""
        ...

    @property
    def history(self) -> HistoryReader:
        """What decisions rested on."""
        ...

    @property
    def learned(self) -> DecisionColumns:
        """Those of them that were learned from, with the events they were learned with."""
        ...

    def save(self, retained: RetainedSums) -> None:
        """Remove the rows and keep `retained` in their stead, in this transaction."""
        ...


class LogAudit(Struct, frozen=True, eq=False):
    """The whole log of one experiment in one consistent view, in portions.

    Attributes:
        derivable: no earlier snapshot's arrays were erased or pruned, so that the probabilities of
            every decision can be derived again.
        retained: sums over decisions that were removed from the log, None where none were.
        data_quality: counts of all batches that a fold has counted, those included that are no
            longer in the log; of the newest version alone.
    """

    record: ExperimentRecord
    snapshot: Snapshot | None
    learned: Iterator[DecisionColumns]
    pending: Iterator[DecisionColumns]
    history: HistoryReader
    derivable: bool = True
    retained: RetainedSums | None = None
    data_quality: DataQualityCounts = DataQualityCounts()
