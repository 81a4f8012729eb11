"""Decision log: decisions, their events, activations and cancellations."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec.structs import replace

from bandits.actors import PROGRAM, Actor
from bandits.store import Beside
from bandits.store.values import (
    Attribution,
    Candidate,
    DecisionRefs,
    Event,
    Events,
    ExperimentRecord,
    KeptEvent,
    MarkResult,
    NewDecisions,
    StoredDecision,
    WaitingEvent,
    WithdrawalResult,
    WithdrawnEvent,
)
from storage.databases import Transaction
from storage.experiments import read_id
from storage.log import (
    batches,
    candidates,
    group_commit,
    queries,
    subject_index,
    waiting_events,
    withdrawals,
)
from storage.log.activations import MarkCall
from storage.log.append_decisions import AppendDecisionsCall
from storage.log.append_events import AppendEventsCall, read_targets
from storage.log.candidates import other_match_keys
from storage.snapshots.data_quality import note_unkept
from storage.snapshots.observations import Observations
from storage.store_context import StoreContext

_MOST_PENDING = 20_000  # decisions that are looked through for each call rather than indexed
_TRACES = "networks and links"


class DecisionLog:
    """Appends to the log, in groups of concurrent calls, and queries it: `bandits.store.LogPort`.

    A call of many rows is a group of its own, and so is one that its caller has `grouped` already.
    """

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context
        self._database = context.database
        self._groups = group_commit.group_commit(context.database)

    def append_decisions(  # noqa: PLR0913 - as the port declares
        self,
        record: ExperimentRecord,
        chosen: NewDecisions,
        *,
        actor: Actor = PROGRAM,
        at: float,
        grouped: bool = False,
        partial: bool = False,
    ) -> Mapping[int, StoredDecision]:
        """Append decisions in one transaction, durable on return."""
        if not chosen.ids:
            return {}
        hashes = self._context.hash_subjects(chosen.subjects)
        keys: Sequence[bytes | None] = [None] * len(hashes)
        if record.configuration.experiment.attribution is not None:
            keys = other_match_keys(self._context.hash_subjects, chosen.subjects)
        call = AppendDecisionsCall(
            self._context, record, chosen, hashes, keys, actor, at, partial=partial
        )
        if grouped or len(chosen.ids) > group_commit.MOST_ROWS:
            return call.run()
        earlier: Mapping[int, StoredDecision] = self._groups.do(call)
        return earlier

    def append_events(
        self,
        events: Events,
        *,
        actor: Actor = PROGRAM,
        at: float,
        grouped: bool = False,
        beside: Beside | None = None,
    ) -> Sequence[int]:
        """Append events of existing decisions in one transaction, durable on return."""
        if not len(events) and beside is None:
            return []
        call = AppendEventsCall(self._context, events, actor, at, beside)
        if grouped or beside is not None or len(events) > group_commit.MOST_ROWS:
            return call.run()
        repeated: Sequence[int] = self._groups.do(call)
        return repeated

    def activate(
        self,
        ids: Sequence[str],
        *,
        messages: Sequence[tuple[str, str]] = (),
        actor: Actor = PROGRAM,
        own_only: bool = False,
        at: float,
    ) -> MarkResult:
        """Start the clocks of decisions."""
        return self._mark(MarkCall(self._context, "activate", ids, actor, own_only, at, messages))

    def check_sender(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False
    ) -> MarkResult:
        """Say which decisions an actor may act for, as `activate` would, and change nothing."""
        call = MarkCall(self._context, "activate", ids, actor, own_only, at=0.0)
        with self._database.reading(consistent=True) as transaction:
            return call.check(transaction)

    def cancel(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False, at: float
    ) -> MarkResult:
        """Take decisions out of learning, and free their subjects."""
        return self._mark(MarkCall(self._context, "cancel", ids, actor, own_only, at))

    def _mark(self, call: MarkCall) -> MarkResult:
        if len(call.ids) > group_commit.MOST_ROWS:
            return call.run()
        result: MarkResult = self._groups.do(call)
        return result

    def admit(
        self,
        record: ExperimentRecord,
        eligible_sets: Sequence[bytes],
        *,
        actor: Actor = PROGRAM,
        at: float,
        most: int,
    ) -> Sequence[bytes]:
        """Insert new eligible sets of requests; return those that are too many."""
        return self._context.write(
            lambda c: batches.admit(c, record, eligible_sets, actor=actor, at=at, most=most)
        )

    def trace_key(self) -> bytes:
        """Return the secret that networks and links of events are hashed with."""
        return self._trace_key

    @cached_property
    def _trace_key(self) -> bytes:
        return self._context.secret(_TRACES)

    def withdraw(
        self,
        new: Sequence[WithdrawnEvent],
        *,
        actor: Actor = PROGRAM,
        own_only: bool = False,
        partial: bool = False,
        at: float,
    ) -> WithdrawalResult:
        """Withdraw events of existing decisions, each once, durable on return."""
        if not new:
            return WithdrawalResult()
        options = {"own_only": own_only, "partial": partial}
        return self._context.write(
            lambda c: withdrawals.withdraw(c, new, actor=actor, at=at, **options)
        )

    def drop_waiting(
        self, keys: Sequence[tuple[str, str]], *, actor: Actor | None
    ) -> list[tuple[str, str]]:
        """Delete waiting events by decision and event id; return those that there were."""
        return self._context.write(lambda c: waiting_events.drop_waiting(c, keys, actor=actor))

    def keep_waiting(
        self, transaction: Transaction, new: Sequence[WaitingEvent], *, actor: Actor, at: float
    ) -> Sequence[int]:
        """Keep events that wait for their decision, each once."""
        return waiting_events.keep_waiting(transaction, new, actor=actor, at=at)

    def ready_events(self, *, limit: int) -> list[KeptEvent]:
        """Read waiting events whose decisions' clocks run, or never will; an actor's together."""
        with self._database.reading() as transaction:
            return waiting_events.read_ready(transaction, limit=limit)

    def remove_waiting(self, transaction: Transaction, kept: Sequence[KeptEvent]) -> None:
        """Delete events that waited."""
        waiting_events.remove_waiting(transaction, [event.id for event in kept])

    def remove_expired(self, *, at: float) -> Mapping[Actor, int]:
        """Delete events that have waited for a day; return how many, by actor."""
        return Counter(self._context.write(lambda c: waiting_events.remove_expired(c, at=at)))

    def note_unkept(
        self,
        early: Mapping[int, int],
        cancelled: Mapping[int, int],
        *,
        actor: Actor = PROGRAM,
        at: float,
    ) -> None:
        """Count events of experiments that are not kept."""
        self._context.write(lambda c: note_unkept(c, early, cancelled, actor=actor, at=at))

    def decisions(self, ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Read the decisions that exist among these ids."""
        with self._database.reading() as transaction:
            return queries.read_decisions(transaction, ids)

    def latest_decisions(self, key: str, *, limit: int) -> list[StoredDecision]:
        """Read an experiment's decisions that were made last, the newest first."""
        with self._database.reading() as transaction:
            record = self._context.experiments.read(transaction, key)
            return queries.read_latest(transaction, record.id, limit)

    def candidates(
        self, records: Sequence[ExperimentRecord], subjects: Sequence[str]
    ) -> list[list[Candidate]]:
        """Find the decisions of each subject in experiments, the oldest first."""
        for record in records:
            self._index_many(record)
        with self._database.reading(consistent=True) as transaction:
            return candidates.find_candidates(
                transaction, records, self._context.hash_subjects, subjects
            )

    def _index_many(self, record: ExperimentRecord) -> None:
        """Index new decisions where there are many, as they would be read for each subject."""
        if record.configuration.experiment.attribution is None:
            return
        while True:
            with self._database.reading() as transaction:
                rows = subject_index.count_pending_rows(transaction, record.id)
            if rows < _MOST_PENDING:
                return
            if not self._context.write(lambda c: subject_index.index_pending(c, record.id)):
                return

    def match_keys(self, subjects: Sequence[str]) -> list[bytes]:
        """Hash subjects as they are matched."""
        return candidates.match_keys(self._context.hash_subjects, subjects)

    def attributions(self, source: str, event_ids: Sequence[str]) -> dict[str, Attribution]:
        """Read where events of a source went, by event id; others are left out."""
        with self._database.reading() as transaction:
            return candidates.read_attributions(transaction, source, event_ids)

    def attribute(
        self, source: str, credited: Mapping[str, Sequence[int]]
    ) -> dict[str, Attribution]:
        """Note where events of a source go, each once, in one transaction, durable on return."""
        return self._context.replace(
            lambda transaction, locked: candidates.attribute(
                transaction, source, credited, locked=locked
            )
        )

    def index_subjects(self, key: str) -> bool:
        """Index some of an experiment's new decisions by subject; return True if more are left."""

        def work(transaction: Transaction) -> bool:
            return subject_index.index_pending(transaction, read_id(transaction, key))

        with self._database.reading() as transaction:
            pending = subject_index.count_pending_rows(transaction, read_id(transaction, key))
        return pending > 0 and self._context.write(work)

    def message_decisions(self, message_ids: Sequence[str]) -> dict[str, list[str]]:
        """Find the ids of the decisions of emails, by the mailer's id; others are left out."""
        with self._database.reading() as transaction:
            return candidates.read_message_decisions(transaction, message_ids)

    def message_ids(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Read the mailer's ids of the emails of decisions, by the decision's id."""
        with self._database.reading() as transaction:
            return candidates.read_message_ids(transaction, ids)

    def has_message_ids(self) -> bool:
        """Return True where the mailer's id of any email was told."""
        with self._database.reading() as transaction:
            return candidates.has_message_ids(transaction)

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        with self._database.reading(consistent=True) as transaction:
            events = queries.read_events(transaction, decision_id)
            if all(event.trace is None for event in events):
                return events
            reasons = self._reasons(transaction, [decision_id])[decision_id]
        return [replace(event, reason=reasons.get(event.event_id)) for event in events]

    def reasons(self, ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Read the reasons of judged events, by decision and event id."""
        with self._database.reading(consistent=True) as transaction:
            return self._reasons(transaction, ids)

    def _reasons(self, transaction: Transaction, ids: Sequence[str]) -> dict[str, dict[str, int]]:
        targets = read_targets(transaction, ids)
        by_experiment: defaultdict[str, list[int]] = defaultdict(list)
        for ref, number in zip(targets.refs, targets.numbers, strict=True):
            if ref is not None:
                by_experiment[ref.experiment].append(number)
        by_number: dict[int, dict[str, int]] = {}
        for key, numbers in by_experiment.items():
            record = self._context.experiments.read(transaction, key)
            by_number |= Observations(transaction, record).reasons(sorted(numbers))
        return {i: by_number.get(n, {}) for i, n in zip(ids, targets.numbers, strict=True)}

    def times_of_links(
        self, ids: Sequence[str], *, since: float, until: float
    ) -> list[tuple[str, float]]:
        """Read the times of events that tracked links reported of decisions, each with its id.

        Args:
            ids: distinct ids of decisions.
            since: events from then on, seconds since 1970,
            until: and before then.
        """
        with self._database.reading() as transaction:
            return queries.read_times(transaction, ids, "tracking", since, until)

    def targets(self, ids: Sequence[str]) -> DecisionRefs:
        """Find the decisions of ids, to append events to them."""
        with self._database.reading() as transaction:
            return read_targets(transaction, ids)
