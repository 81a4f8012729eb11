"""Appending to the log, and finding in it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bandits.store.values import (
    DecisionRefs,
    Event,
    Events,
    ExperimentRecord,
    MarkResult,
    NewDecisions,
    StoredDecision,
)


class LogPort(Protocol):
    """Where decisions live, and what came of them."""

    def append_decisions(
        self, record: ExperimentRecord, chosen: NewDecisions, *, at: float
    ) -> Mapping[int, StoredDecision]:
        """Append decisions in one transaction, durable on return.

        Returns:
            For each row that was not appended, since its id was there before or (with
            ``per_subject``) its subject has a decision: that earlier decision.

        Raises:
            IdReused: an id was there before with another digest; nothing was appended.
            Outdated: the experiment's state or configuration is no longer the record's; nothing
                was appended.
        """
        ...

    def admit(
        self, record: ExperimentRecord, given: Sequence[bytes], *, most: int
    ) -> Sequence[bytes]:
        """Note which of these distinct `eligible` restrictions are new to an experiment.

        Returns:
            Those by which it would have more than `most`, in the given order; where there are any,
            none is noted.
        """
        ...

    def decisions(self, ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Read the decisions that exist among these ids."""
        ...

    def latest_decisions(self, key: str, *, limit: int) -> list[StoredDecision]:
        """Read an experiment's decisions that were made last, the newest first.

        Raises:
            NotFound: there is no experiment of this key.
        """
        ...

    def newest_decisions(self, key: str, subjects: Sequence[str]) -> dict[str, str]:
        """Find the newest decision of each subject in an experiment; others are left out.

        Raises:
            NotFound: there is no experiment of this key.
        """
        ...

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        ...

    def targets(self, ids: Sequence[str]) -> DecisionRefs:
        """Find the decisions of ids, to append events to them."""
        ...

    def append_events(self, events: Events, *, at: float) -> Sequence[int]:
        """Append events of existing decisions in one transaction, durable on return.

        Args:
            events: of decisions as `targets` told of them.
            at: when, seconds since 1970.

        Returns:
            The positions of those that were repeated, ascending: their (decision, event id) was
            there before, or came earlier in `events`.

        Raises:
            IdReused: one was there with another metric or value; nothing was appended.
            Outdated: a decision was erased since; nothing was appended.
        """
        ...

    def note_early(self, early: Mapping[int, int], *, at: float) -> None:
        """Count events of experiments, by number, that came before their decisions' clocks ran."""
        ...

    def activate(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Start the clocks of decisions; repeated where they run already or were cancelled."""
        ...

    def cancel(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Take decisions out of learning, and free their subjects."""
        ...
