"""Store: the port that the engine needs. Tables and SQL are in the package ``storage``.

Times are seconds since 1970-01-01 UTC. The log is append-only: decisions, events, activations and
cancellations are inserted and never changed. Each commit of such rows writes one *batch* row per
experiment, kind and actor; a fold takes due batches into the next snapshot and marks them, in the
transaction that inserts it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bandits.actors import PROGRAM, Actor
from bandits.array_types import FloatArray
from bandits.store.fold import Fold, LogAudit, Removal, ResummationPortion, RevisionFold
from bandits.store.values import (
    ActorCounts,
    Attribution,
    Candidate,
    DecisionRefs,
    DeedCounts,
    Deeds,
    Event,
    Events,
    ExperimentRecord,
    ExperimentState,
    FoldBacklog,
    KeptEvent,
    KeptSnapshot,
    MarkResult,
    NewDecisions,
    ReceiptAllocation,
    RemovalResult,
    Snapshot,
    SnapshotPoint,
    State,
    StoredDecision,
    StoredSignal,
    SubjectPage,
    VoidRecord,
    WaitingEvent,
    WithdrawalResult,
    WithdrawnEvent,
)
from bandits.verdict import Statements
from bandits.versions import Configuration

# Writes more in a transaction of the store, where these positions of what was to be appended were
# repeated. It may be called again, where others came between.
Beside = Callable[[Any, Sequence[int]], None]


class StaleRead(Exception):
    """A write rests on a row that has changed since it was read; read it again."""


class UnfitRepeat(Exception):
    """Subjects have decisions that the eligible sets of rows exclude; nothing was appended.

    Attributes:
        rows: positions of these rows, ascending.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(rows)
        self.rows = rows


class ExperimentPort(Protocol):
    """Experiments and their configurations."""

    def create(
        self, configuration: Configuration, *, salt: bytes, at: float, by: str
    ) -> ExperimentRecord:
        """Add a draft.

        Raises:
            AlreadyExists: its key is taken.
        """
        ...

    def record(self, key: str) -> ExperimentRecord:
        """Read an experiment.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def recent(self, key: str) -> ExperimentRecord:
        """Read an experiment as it was within the last second, to choose under it.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def records(self) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        ...

    def found_by_subject(self) -> list[ExperimentRecord]:
        """Read every experiment that takes events by subject, the newest first."""
        ...

    def look(self) -> None:
        """Read one experiment if there is any: the database answers, and is migrated."""
        ...

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Store the next version of a configuration; earlier ones stay for receipts.

        Raises:
            NotFound: there is none of this key.
            StaleEdit: the stored version is not the one before this.
            WrongState: its state is not one of `allowed`.
        """
        ...

    def move(  # noqa: PLR0913 - a change, and who makes it when
        self,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
        keeps_control: bool = False,
    ) -> ExperimentRecord:
        """Change an experiment's state; `started_at` and `stopped_at` are set the first time.

        Args:
            key: the experiment.
            to: the new state.
            allowed: the states from which it may be taken.
            at: when, seconds since 1970.
            by: the user, for the audit log.
            shipped: the arm that it goes on sending from now on; as it was unless given.
            keeps_control: its control group goes on getting the control.

        Raises:
            NotFound: there is none of this key.
            WrongState: its state is not one of `allowed`.
        """
        ...

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration.

        Raises:
            NotFound: there is none.
        """
        ...


class LogPort(Protocol):
    """Decisions, their events, activations and cancellations."""

    def append_decisions(  # noqa: PLR0913 - what is appended, by whom and how
        self,
        record: ExperimentRecord,
        chosen: NewDecisions,
        *,
        actor: Actor = PROGRAM,
        at: float,
        grouped: bool = False,
        partial: bool = False,
    ) -> Mapping[int, StoredDecision]:
        """Append decisions in one transaction, durable on return.

        A decision that is void stands in nobody's way: its subject is free, and a row that has its
        id gets it; the void one then has another id, and is itself in all else. Who is answered
        with another actor's decision that waits for its activation may activate it.

        Args:
            record: the experiment.
            chosen: the decisions. With ``per_subject`` a row of a fallback is appended where the
                subject's decision is outside the row's eligible set.
            actor: who asks for them.
            at: when, seconds since 1970.
            grouped: the caller has already grouped what several threads ask for, so that there is
                nothing to gain from waiting for company.
            partial: append the other rows where an id was there before with another digest or in
                another experiment.

        Returns:
            For each row that was not appended, since its id was there before or (with
            ``per_subject``) its subject has a decision: that earlier decision.

        Raises:
            IdReused: an id was there before with another digest, or in another experiment, and not
                `partial`; nothing was appended.
            UnfitRepeat: with ``per_subject``, subjects have decisions that the eligible sets of
                rows exclude, and these are no fallbacks; nothing was appended.
            StaleRead: the experiment's state or configuration is no longer the record's; nothing
                was appended.
        """
        ...

    def admit(
        self,
        record: ExperimentRecord,
        eligible_sets: Sequence[bytes],
        *,
        actor: Actor = PROGRAM,
        at: float,
        most: int,
    ) -> Sequence[bytes]:
        """Insert those of these distinct `eligible` restrictions that are new to an experiment.

        An actor may introduce three quarters of what the others have left of `most`, so that
        nobody can use up what others need, however many actors there are. One that only void
        requests had is new, and counts for nobody. Who asks for any is noted, so that it counts as
        theirs where those before them become void.

        Args:
            record: the experiment.
            eligible_sets: the restrictions.
            actor: who asks for them.
            at: when, seconds since 1970.
            most: how many the experiment may have.

        Returns:
            Those by which the actor would have too many, in the same order; where there are any,
            none is inserted.
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

    def candidates(
        self, records: Sequence[ExperimentRecord], subjects: Sequence[str]
    ) -> list[list[Candidate]]:
        """Find the decisions of each of n subjects in experiments, the oldest first.

        Those are left out that were never sent as far as we know: cancelled, not activated, void.
        A subject is found to the byte, and without regard to case, spaces around it and Unicode's
        forms where it is the only one that is spelled so. Of experiments without attribution the
        log is read, where subjects are found that are stored in that form, or to the byte.
        """
        ...

    def match_keys(self, subjects: Sequence[str]) -> list[bytes]:
        """Hash subjects as they are matched: without regard to case, spaces and Unicode's forms."""
        ...

    def attributions(self, source: str, event_ids: Sequence[str]) -> dict[str, Attribution]:
        """Read where events of a source went, by event id; others are left out."""
        ...

    def attribute(
        self, source: str, credited: Mapping[str, Sequence[int]]
    ) -> dict[str, Attribution]:
        """Note where events of a source go, each once, in one transaction, durable on return.

        A note of a decision that is void or cancelled gives way.

        Args:
            source: who reports them.
            credited: numbers of decisions, by event id.

        Returns:
            Where those of them go that were noted before and stay so, as `attributions`.

        Raises:
            StaleRead: a decision was erased since; nothing was noted.
        """
        ...

    def index_subjects(self, key: str) -> bool:
        """Index some of an experiment's new decisions by subject; return True where more are left.

        Raises:
            NotFound: there is no experiment of this key.
        """
        ...

    def message_decisions(self, message_ids: Sequence[str]) -> dict[str, list[str]]:
        """Find the ids of the decisions of emails, by the mailer's id; others are left out."""
        ...

    def message_ids(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Read the mailer's ids of the emails of decisions, by the decision's id."""
        ...

    def has_message_ids(self) -> bool:
        """Return True where the mailer's id of any email was told."""
        ...

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        ...

    def targets(self, ids: Sequence[str]) -> DecisionRefs:
        """Find the decisions of ids, to append events to them."""
        ...

    def append_events(
        self,
        events: Events,
        *,
        actor: Actor = PROGRAM,
        at: float,
        grouped: bool = False,
        beside: Beside | None = None,
    ) -> Sequence[int]:
        """Append events of existing decisions in one transaction, durable on return.

        Args:
            events: of decisions as `targets` returned them.
            actor: who reports them.
            at: when, seconds since 1970.
            grouped: as for `append_decisions`.
            beside: writes more in this transaction, also where there is no event; the call is then
                `grouped`.

        Returns:
            The positions of those that were repeated, ascending: their (decision, event id) was
            there before, or came earlier in `events`.

        Raises:
            IdReused: some were there with another metric or value, in the rows that it names;
                nothing was appended.
            StaleRead: a decision was erased since; nothing was appended.
        """
        ...

    def reasons(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Read `VerdictReason` of the judged events of decisions, by their ids and event id."""
        ...

    def trace_key(self) -> bytes:
        """Return the 32 secret bytes that networks and links of events are hashed with."""
        ...

    def withdraw(
        self,
        new: Sequence[WithdrawnEvent],
        *,
        actor: Actor = PROGRAM,
        own_only: bool = False,
        partial: bool = False,
        at: float,
    ) -> WithdrawalResult:
        """Withdraw events of existing decisions, each once, durable on return.

        Args:
            new: the events, whether they are in the log or not.
            actor: who withdraws them,
            own_only: and may withdraw only what it reported itself.
            partial: withdraw the others where some are another actor's; else none.
            at: when, seconds since 1970.

        Raises:
            StaleRead: a decision was erased since it was read; nothing was withdrawn.
        """
        ...

    def drop_waiting(
        self, keys: Sequence[tuple[str, str]], *, actor: Actor | None
    ) -> list[tuple[str, str]]:
        """Delete waiting events by decision and event id; return those that there were.

        Args:
            keys: theirs.
            actor: only those that this one reported; anybody's unless given.
        """
        ...

    def keep_waiting(
        self, transaction: Any, new: Sequence[WaitingEvent], *, actor: Actor, at: float
    ) -> Sequence[int]:
        """Keep events that wait for their decision, each once, in a transaction of the store.

        Returns:
            The positions of those for which there is no room, ascending.

        Raises:
            IdReused: some wait already with another metric or value, in the rows that it names.
        """
        ...

    def ready_events(self, *, limit: int) -> list[KeptEvent]:
        """Read waiting events whose decisions' clocks run, or never will; an actor's together."""
        ...

    def remove_waiting(self, transaction: Any, kept: Sequence[KeptEvent]) -> None:
        """Delete events that waited, in a transaction of the store."""
        ...

    def remove_expired(self, *, at: float) -> Mapping[Actor, int]:
        """Delete events that have waited for a day; return how many, by actor."""
        ...

    def note_unkept(
        self,
        early: Mapping[int, int],
        cancelled: Mapping[int, int],
        *,
        actor: Actor = PROGRAM,
        at: float,
    ) -> None:
        """Count events of experiments that are not kept.

        Args:
            early: numbers of events that came before their decision's clock ran, by the number of
                the experiment,
            cancelled: and of those whose decision was cancelled before that.
            actor: who reported them.
            at: when, seconds since 1970.
        """
        ...

    def activate(
        self,
        ids: Sequence[str],
        *,
        messages: Sequence[tuple[str, str]] = (),
        actor: Actor = PROGRAM,
        own_only: bool = False,
        at: float,
    ) -> MarkResult:
        """Start the clocks of decisions; repeated where they run already or were cancelled.

        Args:
            ids: distinct ids of decisions.
            messages: ids of decisions among these, and the mailer's id of the email of each; kept
                of repeated ones too.
            actor: who does it.
            own_only: refuse decisions that another actor asked for. Those whose actor was not noted
                are anybody's.
            at: when, seconds since 1970.
        """
        ...

    def check_sender(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False
    ) -> MarkResult:
        """Say which decisions `activate` would refuse an actor, and change nothing.

        The others are counted as accepted. The arguments are those of `activate`.
        """
        ...

    def cancel(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False, at: float
    ) -> MarkResult:
        """Cancel decisions: they are not learned from, and their subjects are free.

        Those whose time to send is over are refused; the arguments are those of `activate`.
        """
        ...


class SnapshotPort(Protocol):
    """Folds, snapshots, and the retained sums of removed decisions."""

    def fold(self, key: str, *, now: float) -> AbstractContextManager[Fold]:
        """Start a fold: take the experiment's lock and read what is due by `now`.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def audit(self, key: str, version: int | None = None) -> AbstractContextManager[LogAudit]:
        """Read the whole log of one experiment, consistently.

        Args:
            key: the experiment.
            version: read what this snapshot was made of; the newest unless given.

        Raises:
            NotFound: there is no such experiment or snapshot.
            NotDerivable: the snapshot knew of decisions that were erased or removed since.
        """
        ...

    def resumming(self, key: str) -> bool:
        """Return true where sums of the newest snapshot are being made anew, or need to be.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def resum(self, key: str, *, most: int) -> AbstractContextManager[ResummationPortion | None]:
        """Start a portion of a resummation: take the experiment's lock and read what comes next.

        Args:
            key: the experiment.
            most: about how many decisions.

        Returns:
            None where the newest snapshot lacks nothing.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def needs_rescoring(self, key: str, *, now: float) -> bool:
        """Return true where decisions are judged by other rules than the configuration names.

        Where the result is final by `now`, seconds since 1970, or nothing is learned, none is.

        Raises:
            NotFound: there is no such experiment.
        """
        ...

    def rescore(self, key: str, *, now: float, most: int) -> AbstractContextManager[Fold | None]:
        """Start a fold that judges decisions by the configuration's rules, and takes nothing else.

        Args:
            key: the experiment.
            now: seconds since 1970.
            most: about how many decisions it looks at; the next one goes on behind them.

        Returns:
            None where nothing needs it any more, or where it has to wait: events that a fold has
            counted came so lately that their networks are still being counted.

        Raises:
            NotFound: there is no such experiment.
            Unavailable: the store cannot record; nothing changed.
        """
        ...

    def allocation(
        self, key: str, configuration_version: int, policy_version: int, restriction: bytes
    ) -> FloatArray | None:
        """Read what a fold stored of the probabilities that decisions were drawn from.

        See `bandits.store.fold.HistoryReader.allocation`.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def snapshot(self, key: str, version: int) -> Snapshot:
        """Read one snapshot.

        Raises:
            NotFound: there is none.
            NotDerivable: it knew of decisions that were erased since.
        """
        ...

    def state(self, key: str, points: int) -> ExperimentState:
        """Read an experiment, its newest snapshot and at most `points` of its history.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def statements(self, key: str) -> Statements:
        """Read the dated statements of an experiment.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def keep_statements(self, key: str, statements: Statements, *, version: int) -> None:
        """Keep dated statements, unless a later snapshot than `version` is the newest by now.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def backlog(self, now: float) -> Mapping[int, FoldBacklog]:
        """Count the batches that a fold would take, by `ExperimentRecord.id`; none are left out."""
        ...

    def history(self, key: str, points: int) -> list[SnapshotPoint]:
        """Read at most `points` snapshots for a chart, spread over time, the newest included."""
        ...

    def kept(self, key: str, *, before: float, waiting_since: float) -> list[KeptSnapshot]:
        """List the snapshots that still have their arrays, the oldest first.

        Args:
            key: the experiment.
            before: of earlier ones it is looked up whether decisions drawn from them wait for their
                activation, where each of these has its own probabilities: then they are needed.
            waiting_since: decisions from before this time are not waited for.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def prune(self, key: str, versions: Sequence[int]) -> int:
        """Delete the arrays of some snapshots, in one transaction.

        The newest keeps its arrays, one with decisions that no fold has counted too, and each its
        arm counts.

        Returns:
            The number of snapshots whose arrays were deleted.
        """
        ...

    def receipt_allocation(self, decision_id: str) -> ReceiptAllocation | None:
        """Read what is kept of one decision for its receipt, None where nothing is."""
        ...

    def keep_receipt(
        self, key: str, decision_id: str, probabilities: FloatArray, *, at: float
    ) -> None:
        """Keep the probabilities (K,) that a decision was drawn from, since they were asked for.

        Raises:
            Unavailable: the store cannot record.
        """
        ...

    def prune_receipts(self, key: str, *, share: float, most_asked: int, most: int) -> int:
        """Remove what is kept for receipts beyond its bounds.

        Args:
            key: the experiment.
            share: of all decisions, which the sample may have.
            most_asked: of those that were asked for; what was asked for first goes first.
            most: of the sample and of the others, in this transaction.

        Returns:
            How many were removed.
        """
        ...

    def prune_networks(self, *, now: float) -> int:
        """Remove counts of networks that no event in the log can be judged by any more.

        Args:
            now: seconds since 1970.

        Returns:
            How many were removed; 0 where none is left.

        Raises:
            Unavailable: the store cannot record; nothing was removed.
        """
        ...

    def remove(
        self,
        key: str,
        *,
        before: float,
        most: int,
        following: tuple[float, int] | None,
        keep: Callable[[Removal], None],
    ) -> RemovalResult:
        """Remove decisions from before a time that nothing can change any more, the oldest first.

        They are folded and their reward window is closed, or they never counted. Of an experiment
        that decides once per subject none is removed before it is stopped.

        Args:
            key: the experiment.
            before: only decisions whose clocks started before, or that were made before and never
                started; at least the reward window ago.
            most: about how many to look at in one transaction.
            following: where the portion before this one ended.
            keep: saves their sums; called in the transaction, where there are any.

        Raises:
            NotFound: there is none of this key.
        """
        ...


class SubjectPort(Protocol):
    """Reading and erasing what is stored of one subject."""

    def subject(
        self, subject_id: str, *, after: int = 0, limit: int, any_spelling: bool = False
    ) -> SubjectPage:
        """Read a subject's decisions in every experiment, at most `limit` after a place.

        This may go through the whole log. With `any_spelling`, those of `other_spellings` as well.
        """
        ...

    def other_spellings(self, subject_id: str) -> int:
        """Count the decisions of subjects that attribution takes for this one.

        They have its id in another case, with spaces around it, or in another form of Unicode.
        """
        ...

    def subject_decisions(
        self, subject_id: str, *, any_spelling: bool = False
    ) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this may go through the log."""
        ...

    def signals(self, subject_id: str, ids: Sequence[str]) -> list[StoredSignal]:
        """Read the events of a subject that connections received and that are not in the log.

        Args:
            subject_id: the subject.
            ids: of its decisions.
        """
        ...

    def erase_signals(self, subject_id: str, ids: Sequence[str]) -> int:
        """Erase what `signals` reads; return the number of events."""
        ...

    def erase(
        self, key: str, ids: Sequence[str], *, now: float, by: str
    ) -> AbstractContextManager[Fold]:
        """Erase decisions and all that followed them, in one transaction.

        Args:
            key: the experiment.
            ids: its decisions; those that are not there any more are passed over.
            now: seconds since 1970.
            by: the user, for the audit log.

        Returns:
            A fold that takes in only their cancellation. Where that is `due`, it has to be saved,
            or nothing is erased.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def opted_out(self, record: ExperimentRecord, subjects: Sequence[str]) -> list[bool]:
        """Return True for each of n subjects who opted out, as the record has it."""
        ...

    def opted_out_at(self, subject_id: str) -> float | None:
        """Return when a subject opted out of the use of its data, None where it did not."""
        ...

    def has_opted_out(self, decision_id: str) -> bool:
        """Return True where the subject of a decision opted out.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        ...

    def set_opt_out(self, decision_id: str, *, opted_out: bool, at: float) -> None:
        """Let the subject of a decision opt out, or take that back.

        From then on no choice uses its data, in any experiment: within a second in every process.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        ...

    def erase_opt_out(self, subject_id: str, *, at: float) -> None:
        """Forget that a subject opted out."""
        ...

    def purge(self) -> None:
        """Remove what was erased from files beside the tables as well, now or a little later."""
        ...


class VoidPort(Protocol):
    """What actors did, and what of it is void."""

    def actors(self, key: str) -> list[ActorCounts]:
        """Count the rows that each actor wrote to the log of an experiment, by actor.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def count(self, key: str, deeds: Deeds, *, now: float) -> DeedCounts:
        """Count what would leave learning and results with `deeds`.

        Raises:
            NotFound: there is none of this key.
            WrongState: its result is final, or rows from then were removed for their age.
        """
        ...

    def void(
        self, key: str, deeds: Deeds, *, call: int | None, now: float, by: str
    ) -> AbstractContextManager[RevisionFold]:
        """Make what an actor did void, from now on and in every sum, in one transaction.

        Of very much it is the first part; go on from `RevisionFold.following`.

        Args:
            key: the experiment.
            deeds: what becomes void, also of rows that are committed later.
            call: `RevisionFold.number` of the first part, None for that.
            now: seconds since 1970.
            by: the user, for the audit log.

        Raises:
            NotFound: there is none of this key.
            WrongState: its result is final, or rows from then were removed for their age.
        """
        ...

    def restore(self, number: int, *, now: float, by: str) -> AbstractContextManager[RevisionFold]:
        """Let a void, or its first part that is in force, count again, in one transaction.

        Raises:
            NotFound: there is no such void.
            WrongState: it was restored before, its experiment's result is final, or rows from then
                were removed for their age.
        """
        ...

    def records(self, key: str | None = None) -> list[VoidRecord]:
        """List every void, the newest first, of one experiment if given.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def record(self, number: int) -> VoidRecord:
        """Read one void.

        Raises:
            NotFound: there is none.
        """
        ...


class Store(Protocol):
    """Experiments, the log, the snapshots, the subjects and the voids.

    Every method may raise `Unavailable`; then nothing was stored.
    """

    @property
    def experiments(self) -> ExperimentPort:
        """Experiments and their configurations."""
        ...

    @property
    def log(self) -> LogPort:
        """Decisions and their events."""
        ...

    @property
    def snapshots(self) -> SnapshotPort:
        """Folds, and the snapshots that they leave."""
        ...

    @property
    def subjects(self) -> SubjectPort:
        """Data of single subjects."""
        ...

    @property
    def voids(self) -> VoidPort:
        """What actors did, and what of it is void."""
        ...
