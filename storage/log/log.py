"""The log of decisions and of what followed them, as the store shows it."""

from collections.abc import Mapping, Sequence

from bandits.store.records import ExperimentRecord
from bandits.store.values import (
    DecisionRefs,
    Event,
    Events,
    MarkResult,
    NewDecisions,
    StoredDecision,
)
from storage.databases import Database, Transaction
from storage.learning.mishaps import note_early
from storage.log import choices, marks, matching, reading, restrictions, rewards, together
from storage.log.brief import append_briefly
from storage.log.groups import Groups, Work
from storage.part import Part


class Log(Part):
    """Appends to the log, together with whoever comes at the same time, and finds in it."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        super().__init__(database)
        self._groups = Groups(database)
        self._choosing = Work(self._append_choices, self._append_many_choices)
        self._rewarding = Work(self._append_rewards, together.reward)
        self._activating = Work(self._activate, together.mark(self._activated))
        self._cancelling = Work(self._cancel, together.mark(self._cancelled))

    def append_decisions(
        self, record: ExperimentRecord, chosen: NewDecisions, *, at: float
    ) -> Mapping[int, StoredDecision]:
        """Append decisions in one transaction, durable on return."""
        if not chosen.ids:
            return {}
        hashes = choices.hash_subjects(self._subject_secret, chosen.subjects)
        call = together.Choices(record, chosen, hashes, at)
        if len(chosen.ids) > together.MOST_ROWS:
            return self._append_choices(call)
        return self._groups.do(self._choosing, call.kind, call)

    def _append_choices(self, call: together.Choices) -> Mapping[int, StoredDecision]:
        few = len(call.chosen.ids) <= together.MOST_ROWS
        if few and append_briefly(self.database, self._recent, call):
            return {}
        return self._write(lambda c: self._append_many_choices(c, [call])[0])

    def _append_many_choices(
        self, transaction: Transaction, calls: Sequence[together.Choices]
    ) -> list[Mapping[int, StoredDecision]]:
        self._recent.check(transaction, calls[0].record)
        return together.choose(transaction, calls)

    def admit(
        self, record: ExperimentRecord, given: Sequence[bytes], *, most: int
    ) -> Sequence[bytes]:
        """Note new restrictions of requests; return those beyond `most`."""
        return self._write(lambda c: restrictions.admit(c, record, given, most=most))

    def decisions(self, ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Read the decisions that exist among these ids."""
        with self.database.reading() as transaction:
            return reading.read_decisions(transaction, ids)

    def latest_decisions(self, key: str, *, limit: int) -> list[StoredDecision]:
        """Read an experiment's decisions that were made last, the newest first."""
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            return reading.read_latest(transaction, record.id, limit)

    def newest_decisions(self, key: str, subjects: Sequence[str]) -> dict[str, str]:
        """Find the newest decision of each subject in an experiment; others are left out."""
        hashes = choices.hash_subjects(self._subject_secret, subjects)
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            found = matching.newest_decisions(transaction, record, hashes)
        named = zip(subjects, hashes, strict=True)
        return {name: found[subject] for name, subject in named if subject in found}

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        with self.database.reading() as transaction:
            return reading.read_events(transaction, decision_id)

    def targets(self, ids: Sequence[str]) -> DecisionRefs:
        """Find the decisions of ids, to append events to them."""
        with self.database.reading() as transaction:
            return rewards.read_targets(transaction, ids)

    def append_events(self, events: Events, *, at: float) -> Sequence[int]:
        """Append events of existing decisions in one transaction, durable on return."""
        if not len(events):
            return []
        call = together.Rewards(events, at)
        if len(events) > together.MOST_ROWS:
            return self._append_rewards(call)
        return self._groups.do(self._rewarding, "reward", call)

    def _append_rewards(self, call: together.Rewards) -> Sequence[int]:
        return self._write(lambda c: rewards.append_events(c, call.events, at=call.at))

    def note_early(self, early: Mapping[int, int], *, at: float) -> None:
        """Count events of experiments that came before their decisions' clocks ran."""
        self._write(lambda c: note_early(c, early, at=at))

    def activate(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Start the clocks of decisions."""
        call = together.Marks(ids, at)
        if len(ids) > together.MOST_ROWS:
            return self._activate(call)
        return self._groups.do(self._activating, "activate", call)

    def _activate(self, call: together.Marks) -> MarkResult:
        return self._write(lambda c: self._activated(c, call.ids, at=call.at))

    def _activated(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> MarkResult:
        return marks.activate(transaction, ids, at=at, record=self._experiments.record_by_id)

    def cancel(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Take decisions out of learning, and free their subjects."""
        call = together.Marks(ids, at)
        if len(ids) > together.MOST_ROWS:
            return self._cancel(call)
        return self._groups.do(self._cancelling, "cancel", call)

    def _cancel(self, call: together.Marks) -> MarkResult:
        return self._write(lambda c: self._cancelled(c, call.ids, at=call.at))

    def _cancelled(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> MarkResult:
        return marks.cancel(transaction, ids, at=at, record=self._experiments.record_by_id)
