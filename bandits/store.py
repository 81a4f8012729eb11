"""The store that the engine needs: a port. Tables and SQL are in the package ``storage``.

Times are seconds since 1970-01-01 UTC. The log is append-only: decisions, events, activations and
cancellations are inserted and never changed. Each commit of such rows writes one *batch* row per
experiment; a fold takes batches that are due into what is learned and marks them, in the
transaction that inserts the next snapshot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from msgspec import Struct

from bandits.arrays import BoolArray, FloatArray, IntArray
from bandits.experiment import Combination, Configuration

State = Literal["draft", "running", "paused", "stopped", "archived"]


class Mishaps(Struct, frozen=True):
    """What an experiment's log was sent that did not fit, as far as folds have seen it.

    Attributes:
        clipped: context values outside their range.
        unknown: categories that are not listed.
        missing: context values that were not given.
        repeated: events that were there before.
        late: events after their decision's window.
        skewed: events told from the future, beyond what is forgiven of a clock.
    """

    clipped: int = 0
    unknown: int = 0
    missing: int = 0
    repeated: int = 0
    late: int = 0
    skewed: int = 0


class Record(Struct, frozen=True):
    """An experiment as it is stored.

    Attributes:
        shipped: the arm that a stopped experiment goes on sending to everybody, if any.
    """

    id: int
    key: str
    state: State
    salt: bytes
    configuration: Configuration
    learned_version: int
    created_at: float
    started_at: float | None = None
    stopped_at: float | None = None
    shipped: int | None = None
    mishaps: Mishaps = Mishaps()

    @property
    def closes_at(self) -> float | None:
        """When its result is final: once the window of the last email before the stop has closed.

        What is reported later is recorded and counts for nothing, so the result stays as it is.
        """
        if self.stopped_at is None:
            return None
        return self.stopped_at + self.configuration.experiment.reward.window_seconds

    @property
    def shipped_variants(self) -> Combination | None:
        """What it goes on sending, by slot."""
        if self.shipped is None:
            return None
        slots = [s.key for s in self.configuration.experiment.slots]
        return dict(zip(slots, self.configuration.arms[self.shipped].variants, strict=True))

    @property
    def started(self) -> bool:
        """Whether it has ever run: from then on most of it is fixed."""
        return self.started_at is not None


class Chosen(Struct, frozen=True, eq=False):
    """n new decisions, column by column, ready to be appended.

    Attributes:
        ids: n distinct ids.
        subjects: n subject ids as the sender knows them; the store keeps only a keyed hash.
        digests: n digests of the requests, empty where the id was made here.
        arms: (n,) the arm of each.
        propensities: (n,) the probability it was drawn with.
        contexts: (n, d) what the policy saw; with d = 1, the constant, there is nothing to store.
        holdout: (n,) held out: the control, and never learned from.
        fallback: (n,) the policy failed: the control, and never learned from.
        restrictions: n encoded `eligible` restrictions, empty where there was none.
        policy_version: the snapshot's version they were drawn from.
        mended: values clipped, unknown, missing.
        shipped: the experiment is stopped and these all get what it goes on sending: they are
            never learned from, and a subject may have any number of them.
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    digests: Sequence[bytes]
    arms: IntArray
    propensities: FloatArray
    contexts: FloatArray
    holdout: BoolArray
    fallback: BoolArray
    restrictions: Sequence[bytes]
    policy_version: int
    mended: tuple[int, int, int] = (0, 0, 0)
    shipped: bool = False


class Stored(Struct, frozen=True, eq=False):
    """One decision as it is stored.

    Attributes:
        context: (d,) what the policy saw.
        started_at: when its clocks started: made, or activated; None while it waits for that.
        shipped: it was made after the stop, and is never learned from.
    """

    id: str
    experiment: str
    configuration_version: int
    policy_version: int
    arm: int
    propensity: float
    context: FloatArray
    holdout: bool
    fallback: bool
    restriction: bytes
    digest: bytes
    made_at: float
    started_at: float | None
    cancelled_at: float | None
    shipped: bool = False


class OfSubject(Struct, frozen=True, eq=False):
    """Decisions of one subject, the oldest first; `next` is the place to read on from."""

    decisions: Sequence[Stored]
    next: int | None


class Target(Struct, frozen=True, gc=False):
    """A decision that events are to be of.

    Attributes:
        experiment: the key of its experiment.
        started_at: when its clocks started; None while it waits for that.
        shipped: it was made after the stop, and is never learned from.
        experiment_id: the store's own number of the experiment,
        number: and of the decision.
    """

    experiment: str
    started_at: float | None
    shipped: bool
    experiment_id: int
    number: int


class Event(Struct, frozen=True, gc=False):
    """One metric event of a decision; `late` ones came after its window and never count.

    Where it was told from the future it is `skewed`: that is counted, and not kept of each.
    """

    decision_id: str
    event_id: str
    metric: str
    value: float
    occurred_at: float
    late: bool = False
    skewed: bool = False


class Decided(Struct, frozen=True, eq=False):
    """n stored decisions and the events that count for them, as the learner needs them.

    Attributes:
        arms: (n,) int.
        contexts: (n, d); all ones (n, 1) where the experiment declares no feature.
        holdout: (n,) bool.
        started_at: (n,) when each one's clocks started.
        event_rows: (e,) int, which of the n decisions each event is of.
        event_metrics: (e,) int, the position of its metric in the reward rule.
        event_values: (e,) its value.
        event_times: (e,) when it was reported.
        propensities: (n,) the probability that each was drawn with.
        restrictions: n encoded `eligible` restrictions, empty where there was none.
        configuration_versions: (n,) int, what each was made under.
        policy_versions: (n,) int, the snapshot that each was drawn from.
        closed: (n,) bool, its reward window is over as far as folds have seen; see `Due`.
    """

    arms: IntArray
    contexts: FloatArray
    holdout: BoolArray
    started_at: FloatArray
    event_rows: IntArray
    event_metrics: IntArray
    event_values: FloatArray
    event_times: FloatArray
    propensities: FloatArray
    restrictions: Sequence[bytes]
    configuration_versions: IntArray
    policy_versions: IntArray
    closed: BoolArray

    def __len__(self) -> int:
        return len(self.arms)


class Snapshot(Struct, frozen=True, eq=False):
    """What was known at one moment.

    Attributes:
        version: 1, 2, …; 0 is the empty one that is never stored.
        configuration_version: the configuration it was folded under.
        at: its reference time, never before the previous one's.
        seed: for the policy's frozen draws.
        upcoming: sends expected before the next fold.
        statistic: what `bandits.statistics.dump` wrote; empty where it is no longer kept, and can
            be made again from an audit of this version.
        tally: what `Tally.dump` wrote.
        grounds: what `Grounds.dump` wrote; kept of the newest snapshot alone, empty in others.
    """

    version: int
    configuration_version: int
    at: float
    seed: int
    upcoming: int
    statistic: bytes
    tally: bytes
    grounds: bytes = b""


class Due(Struct, frozen=True, eq=False):
    """What a fold has to take in. No decision is in two of the first five groups.

    A decision whose window closes with this fold is `closed` where it is in `entered_due` or
    `matured`, else it is in `closing`; elsewhere `closed` are those of an earlier fold.

    Attributes:
        entered: sent since the last fold, not due yet: they become pending.
        entered_due: sent since the last fold and due at once: never pending.
        matured: pending until now, and due.
        withdrawn: pending until now, and cancelled.
        removed: learned earlier and now cancelled, with the events they were learned with.
        before: learned earlier, not cancelled, and now corrected by further events; with the
            events they were learned with.
        after: the same decisions with all their events.
        expired: learned earlier and, since the previous snapshot, grown older than the forgetting
            window (`previous.at - window <= started_at < at - window`), with the events they were
            learned with, whether or not they are in `removed` or `before` too; empty where there is
            no window.
        closing: learned earlier, not cancelled, and their reward window closes with this fold;
            with all their events, whether or not they are in `before` too.
    """

    entered: Decided
    entered_due: Decided
    matured: Decided
    withdrawn: Decided
    removed: Decided
    before: Decided
    after: Decided
    expired: Decided
    closing: Decided


class Past(Protocol):
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
    def record(self) -> Record:
        """The experiment, read under the lock."""
        ...

    @property
    def previous(self) -> Snapshot | None:
        """The newest snapshot, None before the first."""
        ...

    @property
    def due(self) -> Due | None:
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
    def past(self) -> Past:
        """What decisions rested on."""
        ...

    def learned(self) -> Iterator[Decided]:
        """Go through everything that is learned once this fold is saved, in portions."""
        ...

    def pending(self) -> Iterator[Decided]:
        """Go through everything that is sent and not learned once it is saved, in portions."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Mark the batches as folded and insert the snapshot, in this transaction."""
        ...


class Base(Struct, frozen=True, eq=False):
    """What was learned from decisions whose rows were removed, as sums: what the log lacks.

    Attributes:
        version: the newest snapshot when rows were removed last.
        at: what the statistic refers to: its reference time.
        statistic: what `bandits.statistics.dump` wrote.
        tally: what `Tally.dump` wrote.
        grounds: what `Grounds.dump` wrote.
    """

    version: int
    at: float
    statistic: bytes
    tally: bytes
    grounds: bytes


class Removal(Protocol):
    """Some old decisions on their way out, under the experiment's lock.

    Leaving it unsaved removes nothing. No fold will ever need any of them again.
    """

    @property
    def record(self) -> Record:
        """The experiment, read under the lock."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot, which knows of all of them."""
        ...

    @property
    def base(self) -> Base | None:
        """What was removed earlier, None where nothing was."""
        ...

    @property
    def past(self) -> Past:
        """What decisions rested on."""
        ...

    @property
    def learned(self) -> Decided:
        """Those of them that were learned from, with the events they were learned with."""
        ...

    def save(self, base: Base) -> None:
        """Remove the rows and keep `base` in their stead, in this transaction."""
        ...


class Removed(Struct, frozen=True):
    """How a portion of a removal went: decisions removed, and where to go on; None at the end."""

    decisions: int
    following: tuple[float, int] | None


class Audit(Struct, frozen=True, eq=False):
    """The whole log of one experiment in one consistent view, in portions.

    Attributes:
        derivable: no earlier snapshot's arrays were erased or pruned, so that the probabilities of
            every decision can be derived again.
        base: what was learned from rows that the log no longer has, None where it has all.
        mishaps: what did not fit, as all batches of the log tell that a fold has counted, and those
            that it no longer has; of the newest version alone.
    """

    record: Record
    snapshot: Snapshot | None
    learned: Iterator[Decided]
    pending: Iterator[Decided]
    past: Past
    derivable: bool = True
    base: Base | None = None
    mishaps: Mishaps = Mishaps()


class Appended(Struct, frozen=True):
    """What became of events that were to be appended; each is in one of the three."""

    accepted: int
    repeated: int
    late: int


class Marked(Struct, frozen=True):
    """What became of ids that were to be activated or cancelled."""

    accepted: int
    repeated: int
    unknown: tuple[str, ...]


class Point(Struct, frozen=True, eq=False):
    """One snapshot on a chart: its version, time and tally."""

    version: int
    at: float
    tally: bytes


class Waiting(Struct, frozen=True):
    """Batches of one experiment that a fold would take in now: how many, and since when."""

    batches: int
    since: float


class Outdated(Exception):
    """An experiment has changed since its record was read; read it, and decide, again."""


class Standing(Struct, frozen=True, eq=False):
    """An experiment, its newest snapshot (None before the first) and its history, of one moment."""

    record: Record
    snapshot: Snapshot | None
    points: list[Point]


class Store(Protocol):
    """Where experiments, the log and the snapshots live.

    Every method may raise `Unavailable`; then nothing was stored.
    """

    def create(self, configuration: Configuration, *, salt: bytes, at: float, by: str) -> Record:
        """Add a draft.

        Raises:
            AlreadyExists: its key is taken.
        """
        ...

    def record(self, key: str) -> Record:
        """Read an experiment.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def recent(self, key: str) -> Record:
        """Read an experiment as it was within the last second, to choose under it.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def records(self) -> list[Record]:
        """Read every experiment, the newest first."""
        ...

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> Record:
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
    ) -> Record:
        """Change an experiment's state; `started_at` and `stopped_at` are set the first time.

        Args:
            key: the experiment.
            to: the new state.
            allowed: the states from which it may be taken.
            at: when, seconds since 1970.
            by: who, for the audit log.
            shipped: the arm that it goes on sending from now on; as it was unless given.

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

    def append_decisions(
        self, record: Record, chosen: Chosen, *, at: float
    ) -> Mapping[int, Stored]:
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

    def admit(self, record: Record, given: Sequence[bytes], *, most: int) -> Sequence[bytes]:
        """Note which of these distinct `eligible` restrictions are new to an experiment.

        Returns:
            Those by which it would have more than `most`, in the given order; where there are any,
            none is noted.
        """
        ...

    def decisions(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Read the decisions that exist among these ids."""
        ...

    def latest_decisions(self, key: str, *, limit: int) -> list[Stored]:
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

    def targets(self, ids: Sequence[str]) -> dict[str, Target]:
        """Find the decisions that exist among these distinct ids, to append events to them."""
        ...

    def append_events(
        self, events: Sequence[Event], targets: Mapping[str, Target] | None = None, *, at: float
    ) -> Appended:
        """Append events of existing decisions in one transaction, durable on return.

        An event whose (decision, event id) is there before, or twice in `events`, counts as
        repeated; a new one that is late is stored and counts as late.

        Args:
            events: each one's decision exists.
            targets: what `targets` told of their decisions, where that was asked before.
            at: when, seconds since 1970.

        Raises:
            IdReused: it was there with another metric or value; nothing was appended.
        """
        ...

    def activate(self, ids: Sequence[str], *, at: float) -> Marked:
        """Start the clocks of decisions; repeated where they run already or were cancelled."""
        ...

    def cancel(self, ids: Sequence[str], *, at: float) -> Marked:
        """Take decisions out of learning, and free their subjects."""
        ...

    def subject(self, subject_id: str, *, after: int = 0, limit: int) -> OfSubject:
        """Read a subject's decisions in every experiment, at most `limit` after a place.

        This may go through the whole log.
        """
        ...

    def subject_decisions(self, subject_id: str) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this may go through the log."""
        ...

    def erase(
        self, key: str, ids: Sequence[str], *, now: float, by: str
    ) -> AbstractContextManager[Fold]:
        """Erase decisions and all that followed them, in one transaction.

        Args:
            key: the experiment.
            ids: its decisions; those that are not there any more are passed over.
            now: seconds since 1970.
            by: who does it, for the audit log.

        Returns:
            A fold that takes in only that they are cancelled. Where something is `due`, it has to
            be saved, or nothing is erased.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def fold(self, key: str, *, now: float) -> AbstractContextManager[Fold]:
        """Start a fold: take the experiment's lock and read what is due by `now`.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def audit(self, key: str, version: int | None = None) -> AbstractContextManager[Audit]:
        """Read the whole log of one experiment, consistently.

        Args:
            key: the experiment.
            version: read what this snapshot was made of; the newest unless given.

        Raises:
            NotFound: there is no such experiment or snapshot.
            NotDerivable: the snapshot knew of decisions that were erased or removed since.
        """
        ...

    def prune(self, key: str, *, before: float, most: int) -> int:
        """Take the arrays of at most `most` snapshots from before a time, the oldest first.

        The newest keeps its arrays, and each its tally.

        Returns:
            How many were taken.
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
    ) -> Removed:
        """Remove decisions from before a time that nothing can change any more, the oldest first.

        They are folded and their reward window is closed, or they never counted. Of an experiment
        that decides once per subject none is removed before it is stopped.

        Args:
            key: the experiment.
            before: only decisions whose clocks started before, or that were made before and never
                started; at least the reward window ago.
            most: about how many to look at in one transaction.
            following: where the portion before this one ended.
            keep: saves what is known of them; called in the transaction, where there are any.

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

    def standing(self, key: str, points: int) -> Standing:
        """Read how an experiment stands, with at most `points` of its history.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def waiting(self, now: float) -> Mapping[int, Waiting]:
        """Tell what waits for a fold, by `Record.id`; nothing of experiments where nothing does."""
        ...

    def history(self, key: str, points: int) -> list[Point]:
        """Read at most `points` snapshots for a chart, spread over time, the newest included."""
        ...
