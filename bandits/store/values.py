"""Values that pass between the engine and a store. Times are seconds since 1970-01-01 UTC."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple, force_setattr

from bandits.actors import Actor
from bandits.allocation import NEWEST_RULE
from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.experiment import Combination
from bandits.machines import EventTrace
from bandits.schemas import RefusedRow
from bandits.verdict import Statements
from bandits.versions import Configuration

AllocationKey = tuple[int, int, bytes]  # configuration, snapshot and restriction of decisions
BatchPlace = tuple[float, int]  # time and number of a batch: batches of an experiment in order
State = Literal["draft", "running", "paused", "stopped", "archived"]


class DataQualityCounts(Struct, frozen=True):
    """Counts of malformed input to an experiment's log, as far as folds have seen it.

    Attributes:
        clipped: context values outside their range.
        unknown: categories that are not listed.
        missing: context values that were not given.
        repeated: events that were there before.
        late: events after their decision's window.
        skewed: events from the future, beyond the tolerance of a clock.
        early: events before their decision was made or activated; none of them is kept.
        cancelled: events after their decision was cancelled; none of them counts.
    """

    clipped: int = 0
    unknown: int = 0
    missing: int = 0
    repeated: int = 0
    late: int = 0
    skewed: int = 0
    early: int = 0
    cancelled: int = 0


class ExperimentRecord(Struct, frozen=True):
    """An experiment as it is stored.

    Attributes:
        shipped: the arm that a stopped experiment goes on sending, if any.
        keeps_control: its control group goes on getting the control.
        voided: decisions that are void; None where nothing ever was. See `bandits.engine.voids`.
        opt_outs: hashes of the subjects, of all experiments, whose data no choice may use.
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
    keeps_control: bool = False
    data_quality: DataQualityCounts = DataQualityCounts()
    voided: int | None = None
    opt_outs: frozenset[bytes] = frozenset()

    @property
    def closes_at(self) -> float | None:
        """Time from which its result is final: the window of the last email before the stop closed.

        Later events are recorded and never count, so the result stays as it is.
        """
        if self.stopped_at is None:
            return None
        return self.stopped_at + self.configuration.experiment.reward.window_seconds

    @property
    def shipped_variants(self) -> Combination | None:
        """Variant by slot that it goes on sending."""
        if self.shipped is None:
            return None
        slots = [s.key for s in self.configuration.experiment.slots]
        return dict(zip(slots, self.configuration.arms[self.shipped].variants, strict=True))

    @property
    def started(self) -> bool:
        """True once it has run: from then on most of it is fixed."""
        return self.started_at is not None


class Snapshot(Struct, frozen=True, eq=False):
    """A version of what is learned.

    Attributes:
        version: 1, 2, …; 0 is the empty one that is never stored.
        configuration_version: the configuration it was folded under.
        at: its reference time, never before the previous one's.
        seed: for the policy's frozen draws.
        upcoming: sends expected before the next fold.
        statistic: as `bandits.statistics.dump` writes it; empty where it is no longer kept, and can
            be made again from an audit of this version.
        arm_counts: as `ArmCounts.dump` writes them.
        inference_state: as `InferenceState.dump` writes it; kept of the newest snapshot
            alone, empty in others.
        allocation_rule: the `AllocationRule` that decisions on it are made under.
        senders: as `SenderSums.dump` writes them; kept of the newest snapshot alone.
        verdicts: as `EventVerdictCounts.dump` writes them; likewise.
        guardrails: as `GuardrailSums.dump` writes them; likewise.
    """

    version: int
    configuration_version: int
    at: float
    seed: int
    upcoming: int
    statistic: bytes
    arm_counts: bytes
    inference_state: bytes = b""
    allocation_rule: int = NEWEST_RULE
    senders: bytes = b""
    verdicts: bytes = b""
    guardrails: bytes = b""


class RetainedSums(Struct, frozen=True, eq=False):
    """Sums of decisions whose rows were removed from the log.

    Attributes:
        version: the newest snapshot when rows were removed last.
        at: the reference time of the statistic.
        statistic: as `bandits.statistics.dump` writes it.
        arm_counts: as `ArmCounts.dump` writes them.
        inference_state: as `InferenceState.dump` writes it.
        senders: as `SenderSums.dump` writes them.
        removed_before: no row of a decision that started later was removed; None where that was
            not noted yet.
        verdicts: as `EventVerdictCounts.dump` writes them.
        guardrails: as `GuardrailSums.dump` writes them.
    """

    version: int
    at: float
    statistic: bytes
    arm_counts: bytes
    inference_state: bytes
    senders: bytes = b""
    removed_before: float | None = None
    verdicts: bytes = b""
    guardrails: bytes = b""


class RulesInForce(Struct, frozen=True):
    """Versions of the rules against machines that decisions are judged by; None is no rules.

    While a change of the version is carried out, in the order of start batches, there are two.

    Attributes:
        version: for decisions whose clock a batch that is not after `place` started,
        earlier: and for all others.
        place: None where all are judged by `version`.
        left: decisions that stay as they were judged before: their rows were removed.
    """

    version: int | None = None
    earlier: int | None = None
    place: BatchPlace | None = None
    left: int = 0

    @property
    def any(self) -> bool:
        """True where some decisions are judged by rules."""
        return self.version is not None or (self.place is not None and self.earlier is not None)

    def needs_change(self, record: ExperimentRecord, now: float) -> bool:
        """Return true where decisions are to be judged by other rules, as of `now`.

        A change that is under way is finished; none begins where nothing is learned, or where the
        result is final.
        """
        if self.place is not None:
            return True
        same = self.version == record.configuration.experiment.machine_rules
        if same or record.learned_version == 0:
            return False
        return record.closes_at is None or now <= record.closes_at

    def split(self, started_at: FloatArray, start_batches: IntArray) -> list[tuple[int, BoolArray]]:
        """Mark the n decisions that each version judges, by their starts (n,); the rest has none.

        Args:
            started_at: (n,) when the clock of each started.
            start_batches: (n,) int, the number of the batch that started it.
        """
        if self.place is None:
            done = np.ones(len(started_at), dtype=np.bool_)
        else:
            done = is_until(self.place, started_at, start_batches)
        versions = ((self.version, done), (self.earlier, ~done))
        return [(version, mask) for version, mask in versions if version is not None and mask.any()]


def is_until(place: BatchPlace, started_at: FloatArray, start_batches: IntArray) -> BoolArray:
    """Mark decisions (n,) whose clock a batch started that is not after a place."""
    at, number = place
    return (started_at < at) | ((started_at == at) & (start_batches <= number))


class Resummation(Struct, frozen=True, eq=False):
    """Sums of inference being made anew from the log, since the stored ones lack some.

    Every fold adds to them what it takes in of decisions up to the place, so that they are the sums
    over all decisions up to there, as of the newest snapshot.

    Attributes:
        from_format: of the state that was stored when it began; its fields hold meanwhile.
        place: of the last batch whose decisions are summed, None before the first.
        inference_state: over the decisions so far, as `InferenceState.dump` writes it.
    """

    from_format: int
    place: BatchPlace | None
    inference_state: bytes


class SnapshotPoint(Struct, frozen=True, eq=False):
    """One snapshot on a chart: its version, time and arm counts."""

    version: int
    at: float
    arm_counts: bytes


class KeptSnapshot(Struct, frozen=True):
    """One snapshot that still has its arrays.

    Attributes:
        version: its own.
        at: when it was made, seconds since 1970.
        size: bytes of its arrays.
        needed: it is the newest, or a fold will need it for decisions that it has not counted yet.
    """

    version: int
    at: float
    size: int
    needed: bool = False


class ReceiptAllocation(Struct, frozen=True, eq=False):
    """What is kept of one decision for its receipt.

    Attributes:
        probabilities: (K,) of all arms of the configuration that it was made under.
        requested: its receipt was asked for before; else it is one of a sample.
    """

    probabilities: FloatArray
    requested: bool


class ExperimentState(Struct, frozen=True, eq=False):
    """An experiment, its newest snapshot (None before the first) and its history, of one moment.

    Attributes:
        resummation: sums of inference that are being made anew, as of the snapshot.
        rules: that decisions are judged by, as of the snapshot.
        actors: rows that each actor wrote.
        eligible_sets: number of eligible sets by who asked for them first, None where unknown.
    """

    record: ExperimentRecord
    snapshot: Snapshot | None
    points: list[SnapshotPoint]
    statements: Statements = Statements()
    resummation: Resummation | None = None
    actors: "Sequence[ActorCounts]" = ()
    eligible_sets: Mapping[Actor | None, int] = {}
    rules: RulesInForce = RulesInForce()


class FoldBacklog(Struct, frozen=True):
    """Backlog of one experiment: batches that a fold would take now, and since when."""

    batches: int
    since: float


class NewDecisions(Struct, frozen=True, eq=False):
    """n new decisions, column by column, ready to be appended.

    Attributes:
        ids: n distinct ids.
        subjects: n subject ids as the sender knows them; the store keeps only a keyed hash.
        digests: n digests of the requests, empty where the id was made here.
        arms: (n,) the arm of each.
        propensities: (n,) the probability it was drawn with.
        contexts: (n, d) as encoded for the policy; with d = 1, the constant, none is stored.
        holdout: (n,) held out: the control, and never learned from.
        fallback: (n,) the policy failed: the control, and never learned from.
        eligible_sets: n encoded `eligible` sets, empty where there was none.
        policy_version: the snapshot's version they were drawn from.
        mended: values clipped, unknown, missing.
        shipped: the experiment is stopped and these all get the arm that it goes on sending: they
            are never learned from, and a subject may have any number of them.
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    digests: Sequence[bytes]
    arms: IntArray
    propensities: FloatArray
    contexts: FloatArray
    holdout: BoolArray
    fallback: BoolArray
    eligible_sets: Sequence[bytes]
    policy_version: int
    mended: tuple[int, int, int] = (0, 0, 0)
    shipped: bool = False


class StoredDecision(Struct, frozen=True, eq=False):
    """One decision as it is stored.

    Attributes:
        context: (d,) as encoded for the policy.
        started_at: when its clocks started: made, or activated; None while it waits for that.
        cancelled_at: when it was cancelled, None where it was not, or that is void.
        shipped: it was made after the stop, and is never learned from.
        actor: who asked for it; None where that was not noted yet.
        void: the number of the void that it is part of, None where it counts.
        former_id: the id that it was drawn with, where a later decision has that one now.
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
    eligible_set: bytes
    digest: bytes
    made_at: float
    started_at: float | None
    cancelled_at: float | None
    shipped: bool = False
    actor: Actor | None = None
    void: int | None = None
    former_id: str | None = None


class SubjectPage(Struct, frozen=True, eq=False):
    """Decisions of one subject, the oldest first; `next` is the place to read on from."""

    decisions: Sequence[StoredDecision]
    next: int | None


class StoredSignal(Struct, frozen=True):
    """Event that a connection received of a subject, and that is not in the log.

    Attributes:
        connection: the key of its connection.
        received_at: seconds since 1970.
        reason: why it did not fit; empty where it waits for its decision.
        content: as it is stored, a JSON text.
    """

    connection: str
    received_at: float
    reason: str
    content: str


class DecisionRef(Struct, frozen=True, eq=False):
    """Reference of events to a decision; decisions of one batch share one.

    Attributes:
        experiment: the key of its experiment,
        experiment_id: and the store's own number of that.
        started_at: when its clocks started; None while it waits for that.
        shipped: it was made after the stop, and is never learned from.
        cancelled: it was cancelled while it waited, so its clocks never start.
    """

    experiment: str
    experiment_id: int
    started_at: float | None
    shipped: bool
    cancelled: bool = False


class Candidate(Struct, frozen=True):
    """Decision that an event of its subject may be of: it was sent, and counts.

    Attributes:
        number: the store's own number of it; later decisions have larger ones.
        decision_id: its id.
        experiment: the key of its experiment.
        started_at: when its clocks started.
    """

    number: int
    decision_id: str
    experiment: str
    started_at: float


Credit = tuple[int, str]  # number and id of a decision


class Attribution(Struct, frozen=True):
    """Where an event of a subject went.

    Attributes:
        match_key: the hash that its subject is matched by.
        credits: number and id of each decision that it is credited to.
        lapsed: those of decisions that are void or cancelled by now, where it counts for nothing.
    """

    match_key: bytes
    credits: Sequence[Credit]
    lapsed: Sequence[Credit] = ()


class DecisionRefs(Struct, frozen=True, eq=False):
    """The decisions of n ids, to append events to them.

    Attributes:
        refs: n references; None where there is no such decision.
        numbers: n, the store's own number of each; 0 where there is none.
    """

    refs: Sequence[DecisionRef | None]
    numbers: Sequence[int]


class Events(Struct, frozen=True, eq=False):
    """n metric events, column by column, ready to be appended.

    Attributes:
        targets: n references to their decisions,
        numbers: and the numbers of these.
        event_ids: n ids, unique among the events of one decision.
        metrics: n names.
        values: n values.
        occurred_at: n times.
        late: n, true where it came after its window; it never counts then.
        skewed: n, true where it came from the future; only their number is kept.
        traces: n, of the request behind an open or a click; None of others. None of all unless
            given.
        as_of: n, when its value became the current one; None where that is not told. None of all
            unless given.
    """

    targets: Sequence[DecisionRef]
    numbers: Sequence[int]
    event_ids: Sequence[str]
    metrics: Sequence[str]
    values: Sequence[float]
    occurred_at: Sequence[float]
    late: Sequence[bool]
    skewed: Sequence[bool]
    traces: Sequence[EventTrace | None] = ()
    as_of: Sequence[float | None] = ()

    def __post_init__(self) -> None:
        for name in ("traces", "as_of"):
            if not getattr(self, name):
                force_setattr(self, name, [None] * len(self.numbers))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        """All columns, in their order."""
        return astuple(self)

    def take(self, rows: Sequence[int]) -> "Events":
        """Return those at ascending positions."""
        if len(rows) == len(self):
            return self
        return Events(*([column[row] for row in rows] for column in self.columns))


class WaitingEvent(Struct, frozen=True):
    """Event that waits until its decision is made and activated.

    Attributes:
        occurred_at: seconds since 1970.
        trace: of the request behind an open or a click, where that was reported.
        as_of: when its value became the current one, where that was told.
    """

    decision_id: str
    event_id: str
    metric: str
    value: float
    occurred_at: float
    trace: EventTrace | None = None
    as_of: float | None = None


class WithdrawnEvent(Struct, frozen=True):
    """Event of a decision that is withdrawn, whether it is in the log or not.

    Attributes:
        number: the store's own number of the decision,
        event_id: the event's id among those of that,
        experiment_id: and the store's own number of the experiment.
    """

    number: int
    event_id: str
    experiment_id: int


class WithdrawalResult(Struct, frozen=True):
    """Result of withdrawing events, by their positions.

    Attributes:
        repeated: those that were withdrawn before.
        foreign: those of another actor; nothing was withdrawn where these refuse all.
    """

    repeated: Sequence[int] = ()
    foreign: Sequence[int] = ()


class KeptEvent(Struct, frozen=True):
    """Waiting event as it is stored.

    Attributes:
        actor: who reported it.
        received_at: seconds since 1970.
    """

    id: int
    actor: Actor
    received_at: float
    event: WaitingEvent


class Event(Struct, frozen=True, gc=False):
    """One stored metric event of a decision.

    Attributes:
        late: it came after its window, and never counts.
        void: it does not count, since what its reporter did then is void.
        trace: of the request behind an open or a click, where that was reported.
        reason: `bandits.machines.VerdictReason`; None where it was not judged.
        withdrawn: it was taken back, and does not count.
        as_of: when its value became the current one, where that was told.
    """

    decision_id: str
    event_id: str
    metric: str
    value: float
    occurred_at: float
    late: bool = False
    void: bool = False
    trace: EventTrace | None = None
    reason: int | None = None
    withdrawn: bool = False
    as_of: float | None = None

    @property
    def set_aside(self) -> bool:
        """True where it is not a person's, so that it does not count."""
        return bool(self.reason)


_NO_ROWS: IntArray = np.zeros(0, dtype=np.int64)
_OF_ROWS = ("event_rows", "verdict_rows", "eligible_sets")  # of the columns


class DecisionColumns(Struct, frozen=True, eq=False):
    """n stored decisions and the events that count for them, as a fold needs them.

    Attributes:
        arms: (n,) int.
        contexts: (n, d); all ones (n, 1) where the experiment declares no feature.
        holdout: (n,) bool.
        started_at: (n,) when each one's clocks started.
        event_rows: (e,) int, which of the n decisions each event is of; in the order of (`as_of`,
            event id) where the rule has a metric of which the latest counts.
        event_metrics: (e,) int, the position of its name in `RewardRule.event_names`.
        event_values: (e,) its value.
        event_times: (e,) when it was reported.
        propensities: (n,) the probability that each was drawn with.
        eligible_sets: n encoded `eligible` sets, empty where there was none.
        configuration_versions: (n,) int, the configuration that each was made under.
        policy_versions: (n,) int, the snapshot that each was drawn from.
        closed: (n,) bool, its reward window is over as far as folds have seen; see `FoldIncrement`.
        start_batches: (n,) int, the number of the batch that started each one's clocks.
        subject_keys: (n,) uint64, of each one's subject, as good as random; all 0 where the
            experiment has no control group.
        learned: (n,) bool, a fold has learned from it.
        keys: (n,) int, the number of the API key that asked for each, 0 where none did or is known.
        verdict_rows: (v,) int, which of the n decisions each event is of that was judged: a
            person's or not. Those that are not a person's are not among the e events.
        verdict_metrics: (v,) int, the position of its name, as in `event_metrics`.
        verdict_reasons: (v,) int, `bandits.machines.VerdictReason`.
        verdict_mailboxes: (v,) int, `bandits.machines.MailboxClass`.
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
    eligible_sets: Sequence[bytes]
    configuration_versions: IntArray
    policy_versions: IntArray
    closed: BoolArray
    start_batches: IntArray
    subject_keys: AnyArray
    learned: BoolArray
    keys: IntArray
    verdict_rows: IntArray = _NO_ROWS
    verdict_metrics: IntArray = _NO_ROWS
    verdict_reasons: IntArray = _NO_ROWS
    verdict_mailboxes: IntArray = _NO_ROWS

    def __len__(self) -> int:
        return len(self.arms)

    @classmethod
    def nothing(cls, n_features: int) -> "DecisionColumns":
        """Return the columns of no decision, with contexts of so many features."""
        integers, floats, booleans = (np.zeros(0, dtype) for dtype in (np.int64, float, np.bool_))
        return cls(
            integers,
            np.zeros((0, n_features)),
            booleans,
            floats,
            integers,
            integers,
            floats,
            floats,
            floats,
            [],
            integers,
            integers,
            booleans,
            integers,
            np.zeros(0, np.uint64),
            booleans,
            integers,
        )

    @classmethod
    def concatenate(cls, parts: Sequence["DecisionColumns"]) -> "DecisionColumns":
        """Put one part or more behind each other."""
        rows = np.cumsum([0, *map(len, parts[:-1])])  # before each part
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in cls.__struct_fields__
            if name not in _OF_ROWS
        }
        for name in ("event_rows", "verdict_rows"):
            shifted = [getattr(p, name) + before for p, before in zip(parts, rows, strict=True)]
            arrays[name] = np.concatenate(shifted)
        return cls(
            **arrays,
            eligible_sets=[e for part in parts for e in part.eligible_sets],
        )

    def take(self, mask: BoolArray) -> "DecisionColumns":
        """Return the decisions of a mask (n,), with their events."""
        if mask.all():
            return self
        rows = np.cumsum(mask) - 1  # the new number of each that stays
        stay = {"event": mask[self.event_rows], "verdict": mask[self.verdict_rows]}
        arrays = {
            name: getattr(self, name)[stay.get(name.partition("_")[0], mask)]
            for name in self.__struct_fields__
            if name not in _OF_ROWS
        }
        return DecisionColumns(
            **arrays,
            event_rows=rows[self.event_rows[stay["event"]]],
            verdict_rows=rows[self.verdict_rows[stay["verdict"]]],
            eligible_sets=[self.eligible_sets[i] for i in np.flatnonzero(mask).tolist()],
        )

    def until(self, place: "BatchPlace | None") -> "DecisionColumns":
        """Return those whose clocks a batch started that is not after a place."""
        if place is None:
            return self.take(np.zeros(len(self), dtype=np.bool_))
        return self.take(is_until(place, self.started_at, self.start_batches))


class FoldIncrement(Struct, frozen=True, eq=False):
    """Decisions that a fold takes in. None is in two of the first five groups.

    A fold that voids or restores what an actor did takes in nothing else: a decision that it
    concerns is in `withdrawn` or `removed` as it was, and in `resumed` or `relearned` as it is now.

    A decision whose window closes with this fold is `closed` where it is in `entered_due` or
    `matured`, else it is in `closing`; elsewhere `closed` are those of an earlier fold.

    Attributes:
        entered: sent since the last fold, not due yet: they become pending.
        entered_due: sent since the last fold and due at once: never pending.
        matured: pending until now, and due.
        withdrawn: pending until now, and cancelled, with the events counted earlier.
        removed: learned earlier and now cancelled, with the events they were learned with.
        before: learned earlier, not cancelled, and now corrected by further events of declared
            metrics; with the events they were learned with.
        after: the same decisions with all their events.
        expired: learned earlier and, since the previous snapshot, grown older than the forgetting
            window (`previous.at - window <= started_at < at - window`), with the events they were
            learned with, whether or not they are in `removed` or `before` too; empty where there is
            no window.
        closing: learned earlier, not cancelled, and their reward window closes with this fold;
            with all their events, whether or not they are in `before` too.
        events_before: sent earlier, not cancelled, with further events now but none that corrects
            what was learned; with the events counted earlier.
        events_after: the same decisions with all their events.
        resumed: pending from now on again, or still, with the events that count now.
        relearned: learned from now on again, or still, likewise.
    """

    entered: DecisionColumns
    entered_due: DecisionColumns
    matured: DecisionColumns
    withdrawn: DecisionColumns
    removed: DecisionColumns
    before: DecisionColumns
    after: DecisionColumns
    expired: DecisionColumns
    closing: DecisionColumns
    events_before: DecisionColumns
    events_after: DecisionColumns
    resumed: DecisionColumns
    relearned: DecisionColumns

    @classmethod
    def nothing(cls) -> "FoldIncrement":
        """Return an increment of no decision."""
        return cls(*(DecisionColumns.nothing(1) for _ in cls.__struct_fields__))

    def until(self, place: BatchPlace | None) -> "FoldIncrement":
        """Return what of it is about decisions whose start is not after a place."""
        return FoldIncrement(*(group.until(place) for group in astuple(self)))


class MarkResult(Struct, frozen=True):
    """Counts of ids that were to be activated or cancelled, the unknown and the refused ones."""

    accepted: int
    repeated: int
    unknown: tuple[str, ...]
    refused: tuple[RefusedRow, ...] = ()


class Deeds(Struct, frozen=True):
    """All that one actor did in an experiment between two times, the second excluded."""

    actor: Actor
    since: float
    until: float


class DeedCounts(Struct, frozen=True, eq=False):
    """Counts of what `Deeds` wrote to the log, and of what leaves learning and results with it.

    Attributes:
        decisions: (K + 1,) int, decisions that it asked for, held-out ones last; those that are
            cancelled or void already are left out.
        events: (K + 1,) int, events that leave: of these decisions, or reported by the actor.
        activated: decisions that the actor reported as sent, and are not among `decisions`.
        cancelled: decisions that the actor cancelled, and are not among `decisions`.
        withdrawn: events that the actor withdrew, of decisions that are not among `decisions`.
        cancelled_before: decisions that it asked for and that are cancelled: they count for
            nothing already, and hold their ids, subjects and eligible sets.
        batches: batches that it wrote and that are not void already.
        sets: eligible sets that it introduced, also by requests that were refused, and that are
            not void already.
    """

    decisions: IntArray
    events: IntArray
    activated: int
    cancelled: int
    withdrawn: int
    cancelled_before: int
    batches: int
    sets: int


class ActorCounts(Struct, frozen=True):
    """Rows that an actor wrote to the log of an experiment, as far as folds have seen it.

    Attributes:
        first_at: when the first of them was written.
        last_at: when the last was.
        answered: decisions it had asked for that were cancelled after an event of theirs.
    """

    actor: Actor
    first_at: float
    last_at: float
    chosen: int = 0
    activated: int = 0
    rewarded: int = 0
    cancelled: int = 0
    answered: int = 0


class VoidRecord(Struct, frozen=True):
    """Void of what an actor did, as it is kept.

    Attributes:
        id: by which it is restored.
        experiment: the key of its experiment.
        decisions: decisions that left by it.
        by: who voided it.
        restored_at: when it was restored; None while it is in force.
        given_on: decisions of the actor then whose ids later decisions have.
    """

    id: int
    experiment: str
    deeds: Deeds
    decisions: int
    at: float
    by: str
    restored_at: float | None = None
    restored_by: str | None = None
    given_on: int = 0


class RemovalResult(Struct, frozen=True):
    """Result of one portion of a removal: decisions removed, and where the next begins, if any."""

    decisions: int
    following: BatchPlace | None
