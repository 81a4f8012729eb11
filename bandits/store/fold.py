"""Store side of folds: the log of an experiment to be folded, audited or removed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from bandits.array_types import FloatArray
from bandits.store.values import (
    AllocationKey,
    BatchPlace,
    DataQualityCounts,
    DecisionColumns,
    ExperimentRecord,
    FoldIncrement,
    Resummation,
    RetainedSums,
    Snapshot,
    StoredDecision,
)
from bandits.versions import Configuration


class HistoryReader(Protocol):
    """Reader of earlier configurations and snapshots, in the transaction that reads the log."""

    def configuration(self, version: int) -> Configuration:
        """Read one version of the configuration.

        Raises:
            NotFound: there is none.
        """
        ...

    def snapshot(self, version: int) -> Snapshot | None:
        """Read one snapshot; None for version 0, before the first.

        Raises:
            NotFound: there is none, or it is no longer kept.
        """
        ...

    def allocation(
        self, configuration_version: int, policy_version: int, restriction: bytes
    ) -> FloatArray | None:
        """Read the probability of each arm, (K,) as the record's configuration has them.

        Arms that the decisions could not get have 0. None where it is not known: no fold has stored
        it, or the policy uses the context, so that each decision has its own.
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
        """Increment that is due, None where nothing changed.

        A store may take a long backlog in parts, so that writers need not wait long: fold again
        until nothing is due.
        """
        ...

    @property
    def more(self) -> bool:
        """True where a fold right after this one would find more that is due by the same time."""
        ...

    @property
    def history(self) -> HistoryReader:
        """Reader of the configurations and snapshots that decisions rested on."""
        ...

    @property
    def unstarted(self) -> Sequence[AllocationKey]:
        """Keys of decisions that this fold counts, or outlives, and has not in `due`.

        They wait for their activation, or for the next fold while an erasure empties their
        snapshot. None where the policy uses the context.
        """
        ...

    @property
    def resummation(self) -> Resummation | None:
        """Sums of inference that are being made anew, as of the previous snapshot."""
        ...

    @property
    def rescoring(self) -> bool:
        """True while some decisions are judged by other rules against machines than the rest."""
        ...

    def learned(self) -> Iterator[DecisionColumns]:
        """Go through all decisions that are learned once this fold is saved, in portions."""
        ...

    def pending(self) -> Iterator[DecisionColumns]:
        """Go through all that are sent and not learned once it is saved, in portions."""
        ...

    def save_allocations(self, allocations: Mapping[AllocationKey, FloatArray]) -> None:
        """Insert allocations of a policy without context, (K,) each, in this transaction."""
        ...

    def sample(self, share: float) -> Mapping[int, StoredDecision]:
        """Read a share of the decisions that this fold counts first, by serial.

        Of an erasure, which empties snapshots, it is one of those that no fold has counted yet.
        """
        ...

    def save_receipt_allocations(self, rows: Mapping[int, FloatArray]) -> None:
        """Insert the probabilities (K,) of single decisions by serial, in this transaction."""
        ...

    def save(self, snapshot: Snapshot, resummation: Resummation | None = None) -> None:
        """Mark the batches as folded and insert the snapshot, in this transaction.

        With it, sums that are being made anew, as of this snapshot.
        """
        ...


class RevisionFold(Fold, Protocol):
    """Fold that takes in what a void, or its restoration, changes, and nothing else.

    Where that is `due`, it has to be saved, or nothing changes.
    """

    @property
    def number(self) -> int:
        """The void, by which it is restored."""
        ...

    @property
    def following(self) -> float | None:
        """Time from which the rest of the deeds is still to be done, None where nothing is left."""
        ...


class ResummationPortion(Protocol):
    """Portion of the log to be summed anew, under the experiment's lock.

    Leaving it unsaved changes nothing.
    """

    @property
    def record(self) -> ExperimentRecord:
        """The experiment, read under the lock."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        ...

    @property
    def retained(self) -> RetainedSums | None:
        """Sums of rows that the log no longer has."""
        ...

    @property
    def history(self) -> HistoryReader:
        """Reader of the configurations and snapshots that decisions rested on."""
        ...

    @property
    def resummation(self) -> Resummation | None:
        """The sums so far, None before the first portion."""
        ...

    @property
    def decisions(self) -> DecisionColumns:
        """Counted decisions of the batches that come next, with the events that count for them."""
        ...

    @property
    def place(self) -> BatchPlace | None:
        """Place of the last of these batches, None where there was no further one."""
        ...

    def save_allocations(self, allocations: Mapping[AllocationKey, FloatArray]) -> None:
        """Insert allocations of a policy without context, (K,) each, in this transaction."""
        ...

    def save(self, resummation: Resummation) -> None:
        """Keep the sums so far, in this transaction."""
        ...

    def finish(self, snapshot: Snapshot) -> None:
        """Insert a snapshot that has the new sums, and end it, in this transaction."""
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
        """The newest snapshot, which has all of them."""
        ...

    @property
    def retained(self) -> RetainedSums | None:
        """Sums of earlier removals, None before the first."""
        ...

    @property
    def history(self) -> HistoryReader:
        """Reader of the configurations and snapshots that decisions rested on."""
        ...

    @property
    def learned(self) -> DecisionColumns:
        """Learned decisions among them, with the events they were learned with."""
        ...

    def save(self, retained: RetainedSums) -> None:
        """Remove the rows and keep `retained` in their stead, in this transaction."""
        ...


class LogAudit(Struct, frozen=True, eq=False):
    """The whole log of one experiment in one consistent view, in portions.

    Attributes:
        derivable: true where no earlier snapshot's arrays were erased or pruned, so that the
            probabilities of every decision can be derived again.
        resummation: sums of inference that are being made anew, as of the newest snapshot.
        retained: sums of rows that the log no longer has, None where it has all.
        data_quality: counts of all batches that folds have counted, also of those that the
            log no longer has; of the newest version alone.
    """

    record: ExperimentRecord
    snapshot: Snapshot | None
    learned: Iterator[DecisionColumns]
    pending: Iterator[DecisionColumns]
    history: HistoryReader
    derivable: bool = True
    retained: RetainedSums | None = None
    data_quality: DataQualityCounts = DataQualityCounts()
    resummation: Resummation | None = None
