"""The log of decisions and of what followed them, as the store shows it."""

from collections.abc import Mapping, Sequence

from bandits.store.values import (
    DecisionRefs,
    Event,
    Events,
    ExperimentRecord,
    MarkResult,
    NewDecisions,
    StoredDecision,
)
from storage.databases import Transaction
from storage.log import (
    activations,
    append_events,
    batches,
    combined_calls,
    queries,
)
from storage.log.fast_append import append_briefly
from storage.log.group_commit import CallType, GroupCommit
from storage.snapshots.data_quality import note_early
from storage.store_context import StoreContext


class DecisionLog:
    """Appends to the log, together with whoever comes at the same time, and finds in it."""

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context
        self._database = context.database
        self._groups = GroupCommit(context.database)
        self._choosing = CallType(self._append_choices, self._append_many_choices)
        self._rewarding = CallType(self._append_rewards, combined_calls.append_event_calls)
        self._activating = CallType(self._activate, combined_calls.mark_calls(self._activated))
        self._cancelling = CallType(self._cancel, combined_calls.mark_calls(self._cancelled))

    def append_decisions(
        self, record: ExperimentRecord, chosen: NewDecisions, *, at: float, grouped: bool = False
    ) -> Mapping[int, StoredDecision]:
        """Append decisions in one transaction, durable on return."""
        if not chosen.ids:
            return {}
        hashes = self._context.hash_subjects(chosen.subjects)
        call = combined_calls.AppendDecisionsCall(record, chosen, hashes, at)
        if grouped or len(chosen.ids) > combined_calls.MOST_ROWS:
            return self._append_choices(call)
        return self._groups.do(self._choosing, call.kind, call)

    def _append_choices(
        self, call: combined_calls.AppendDecisionsCall
    ) -> Mapping[int, StoredDecision]:
        few = len(call.chosen.ids) <= combined_calls.MOST_ROWS
        if few and append_briefly(self._database, self._context.recent, call):
            return {}
        return self._context.write(lambda c: self._append_many_choices(c, [call])[0])

    def _append_many_choices(
        self, transaction: Transaction, calls: Sequence[combined_calls.AppendDecisionsCall]
    ) -> list[Mapping[int, StoredDecision]]:
        self._context.recent.check(transaction, calls[0].record)
        return combined_calls.append_decision_calls(transaction, calls)

    def admit(
        self, record: ExperimentRecord, restrictions: Sequence[bytes], *, most: int
    ) -> Sequence[bytes]:
        """Note new restrictions of requests; return those beyond `most`."""
        return self._context.write(lambda c: batches.admit(c, record, restrictions, most=most))

    def decisions(self, ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Read the decisions that exist among these ids."""
        with self._database.reading() as transaction:
            return queries.read_decisions(transaction, ids)

    def latest_decisions(self, key: str, *, limit: int) -> list[StoredDecision]:
        """Read an experiment's decisions that were made last, the newest first."""
        with self._database.reading() as transaction:
            record = self._context.experiments.record(transaction, key)
            return queries.read_latest(transaction, record.id, limit)

    def newest_decisions(self, key: str, subjects: Sequence[str]) -> dict[str, str]:
        """Find the newest decision of each subject in an experiment; others are left out."""
        hashes = self._context.hash_subjects(subjects)
        with self._database.reading() as transaction:
            record = self._context.experiments.record(transaction, key)
            found = queries.newest_decisions(transaction, record, hashes)
        named = zip(subjects, hashes, strict=True)
        return {name: found[subject] for name, subject in named if subject in found}

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        with self._database.reading() as transaction:
            return queries.read_events(transaction, decision_id)

    def targets(self, ids: Sequence[str]) -> DecisionRefs:
        """Find the decisions of ids, to append events to them."""
        with self._database.reading() as transaction:
            return append_events.read_targets(transaction, ids)

    def append_events(self, events: Events, *, at: float, grouped: bool = False) -> Sequence[int]:
        """Append events of existing decisions in one transaction, durable on return."""
        if not len(events):
            return []
        call = combined_calls.AppendEventsCall(events, at)
        if grouped or len(events) > combined_calls.MOST_ROWS:
            return self._append_rewards(call)
        return self._groups.do(self._rewarding, "reward", call)

    def _append_rewards(self, call: combined_calls.AppendEventsCall) -> Sequence[int]:
        return self._context.write(
            lambda c: append_events.append_events(c, call.events, at=call.at)
        )

    def note_early(self, early: Mapping[int, int], *, at: float) -> None:
        """Count events of experiments that came before their decisions' clocks ran."""
        self._context.write(lambda c: note_early(c, early, at=at))

    def activate(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Start the clocks of decisions."""
        call = combined_calls.MarkCall(ids, at)
        if len(ids) > combined_calls.MOST_ROWS:
            return self._activate(call)
        return self._groups.do(self._activating, "activate", call)

    def _activate(self, call: combined_calls.MarkCall) -> MarkResult:
        return self._context.write(lambda c: self._activated(c, call.ids, at=call.at))

    def _activated(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> MarkResult:
        return activations.activate(
            transaction, ids, at=at, record=self._context.experiments.record_by_id
        )

    def cancel(self, ids: Sequence[str], *, at: float) -> MarkResult:
        """Take decisions out of learning, and free their subjects."""
        call = combined_calls.MarkCall(ids, at)
        if len(ids) > combined_calls.MOST_ROWS:
            return self._cancel(call)
        return self._groups.do(self._cancelling, "cancel", call)

    def _cancel(self, call: combined_calls.MarkCall) -> MarkResult:
        return self._context.write(lambda c: self._cancelled(c, call.ids, at=call.at))

    def _cancelled(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> MarkResult:
        return activations.cancel(
            transaction, ids, at=at, record=self._context.experiments.record_by_id
        )
