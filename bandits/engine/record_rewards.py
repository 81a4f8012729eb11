"""Record rewards: the events that recipients cause, each placed in time and counted once."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, pairwise
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bandits.actors import Actor
from bandits.engine.attribution import AttributedRewards, attribute
from bandits.engine.choose import MAX_BATCH
from bandits.engine.event_time import PlacedTime, RewardClock
from bandits.errors import Fault, IdReused, InvalidInput, Unavailable
from bandits.event_ids import RESERVED_TOLD, foreign_rows, sent_event_ids
from bandits.identifiers import pointer
from bandits.machines import EventTrace, event_trace
from bandits.rewards import AS_OF_REQUIRED, refuse_value
from bandits.schemas import (
    ID_TOLD,
    RefusalReason,
    RefusedRow,
    Reward,
    RewardReceipt,
    misfits,
    missing_fields,
)
from bandits.store import StaleRead, Store
from bandits.store.values import DecisionRef, Events, ExperimentRecord, WaitingEvent
from bandits.waits import BatchingQueue

_MOST_FAULTS = 100
_ATTEMPTS = 5
_REUSED = "this event id was used before with another metric, value, as_of or subject"
_FEW = 50  # rewards of a call that is recorded together with others


class RewardHandler:
    """Handler of rewards: records the events of recipients."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Record in `store`; `clock` gives seconds since 1970."""
        self._store = store
        self._clock = clock
        # By actor, and whether early ones wait: a group is written as batches of one actor.
        self._queues: dict[tuple[Actor, bool], BatchingQueue[Sequence[Reward], RewardReceipt]] = {}

    def record(
        self,
        rewards: Sequence[Reward],
        *,
        actor: Actor,
        traces: Sequence[EventTrace | None] | None = None,
        wait: bool = False,
    ) -> RewardReceipt:
        """Record rewards, as `Engine.reward` declares."""
        if len(rewards) > MAX_BATCH:
            raise InvalidInput.at("/rewards", f"must be at most {MAX_BATCH:,}")
        if traces is not None:
            outcome = self._append(rewards, actor=actor, grouped=False, traces=traces, wait=wait)
            return outcome.receipt(0, len(rewards))
        if len(rewards) > _FEW:
            return self._record_call(actor, wait, rewards)
        queue = self._queues.get((actor, wait))
        if queue is None:
            alone = partial(self._record_call, actor, wait)
            together = partial(self._record_calls, actor, wait)
            queue = self._queues.setdefault((actor, wait), BatchingQueue(alone, together))
        return queue.do(rewards)

    def record_partial(
        self, rewards: Sequence[Reward], *, actor: Actor, wait: bool = False
    ) -> RewardReceipt:
        """Record those rewards that fit, and list the others, as `Engine.reward` declares."""

        def append(call: Sequence[Reward]) -> _RewardOutcome:
            return self._append(call, actor=actor, grouped=False, most_faults=len(call), wait=wait)

        return _fitting(rewards, append)

    def try_rewards(
        self, rewards: Sequence[Reward], *, actor: Actor, partial: bool, wait: bool = False
    ) -> RewardReceipt:
        """Check rewards, as `Engine.try_rewards` declares."""

        def place(call: Sequence[Reward]) -> _RewardOutcome:
            most = len(call) if partial else _MOST_FAULTS
            _refuse_ids(call, actor, most)
            now = self._clock()
            attributed = attribute(
                self._store, call, source=actor, now=now, most_faults=most, note=False
            )
            lost = [call[row].event_id for row in attributed.unattributed]
            placed = _place(self._store, attributed, now, most, (), wait=wait)
            return _RewardOutcome(attributed, lost, placed, ())

        if len(rewards) > MAX_BATCH:
            raise InvalidInput.at("/rewards", f"must be at most {MAX_BATCH:,}")
        return _fitting(rewards, place) if partial else place(rewards).receipt(0, len(rewards))

    def _record_call(self, actor: Actor, wait: bool, rewards: Sequence[Reward]) -> RewardReceipt:  # noqa: FBT001 - bound by `partial`
        outcome = self._append(rewards, actor=actor, grouped=len(rewards) <= _FEW, wait=wait)
        return outcome.receipt(0, len(rewards))

    def _record_calls(
        self,
        actor: Actor,
        wait: bool,  # noqa: FBT001 - bound by `partial`
        calls: Sequence[Sequence[Reward]],
    ) -> list[RewardReceipt]:
        """Record the rewards of several calls, all of them or none."""
        rewards = list(chain.from_iterable(calls))
        outcome = self._append(rewards, actor=actor, grouped=True, wait=wait)
        ends = list(accumulate(map(len, calls), initial=0))
        return [outcome.receipt(first, end) for first, end in pairwise(ends)]

    def _append(  # noqa: PLR0913 - what is appended, by whom and how
        self,
        rewards: Sequence[Reward],
        *,
        actor: Actor,
        grouped: bool,
        most_faults: int = _MOST_FAULTS,
        traces: Sequence[EventTrace | None] | None = None,
        wait: bool = False,
    ) -> "_RewardOutcome":
        """Append rewards, all of them or none.

        Raises:
            InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range.
            IdReused: event ids came before with another metric, value or subject, in the rows that
                it names.
            Unavailable: their decisions are being erased.
        """
        _refuse_ids(rewards, actor, most_faults)
        if traces is None:
            traces = self._traces(rewards)
        for _ in range(_ATTEMPTS):
            now = self._clock()
            try:
                attributed = attribute(
                    self._store, rewards, source=actor, now=now, most_faults=most_faults
                )
            except StaleRead:  # a decision was erased since it was found
                continue
            placed = _place(self._store, attributed, now, most_faults, traces, wait=wait)
            keeper = _WaitingKeeper(self._store, placed, actor, now) if placed.waiting else None
            try:
                repeated = self._store.log.append_events(
                    placed.events, actor=actor, at=now, grouped=grouped, beside=keeper
                )
            except StaleRead:  # a decision was erased since it was looked up: it is unknown now
                continue
            except IdReused as error:
                places = [*placed.rows, *placed.waiting]
                rows = sorted({attributed.rows[places[i]] for i in error.rows})
                raise IdReused(error.kind, error.key, rows) from None
            surplus = keeper.surplus if keeper is not None else ()
            early, cancelled = placed.unkept(surplus)
            if early or cancelled:
                self._store.log.note_unkept(early, cancelled, actor=actor, at=now)
            events = [rewards[row].event_id for row in attributed.unattributed]
            return _RewardOutcome(attributed, events, placed, repeated, surplus)
        raise Unavailable("decisions of these rewards are being erased")

    def _traces(self, rewards: Sequence[Reward]) -> Sequence[EventTrace | None]:
        """Return what is kept of the request behind each reward; nothing where none has any."""
        if all(reward.tracking is None for reward in rewards):
            return ()
        key = self._store.log.trace_key()
        return [
            None if reward.tracking is None else event_trace(reward.tracking, reward.metric, key)
            for reward in rewards
        ]


class _PlacedRewards(Struct, frozen=True, eq=False):
    """Rewards with their times; rows are positions among all of them, ascending.

    Attributes:
        unknown: rows of those whose decision does not exist,
        early: of those that came before their decision's clock ran,
        cancelled: of those whose decision was cancelled before it did,
        rows: and of all others.
        events: these, as they are stored.
        waiting: rows of those unknown and early ones that wait for their decision,
        waiting_events: and these, as they are kept.
        experiments: the experiment's number of each early and cancelled one, by row.
    """

    unknown: Sequence[int]
    early: Sequence[int]
    cancelled: Sequence[int]
    rows: Sequence[int]
    events: Events
    waiting: Sequence[int]
    waiting_events: Sequence[WaitingEvent]
    experiments: Mapping[int, int]

    def unkept(self, surplus: Sequence[int]) -> tuple[Counter[int], Counter[int]]:
        """Count the early and the cancelled ones that are not kept, by experiment's number.

        Args:
            surplus: places among the waiting ones for which there was no room.
        """
        kept = set(self.waiting).difference(self.waiting[place] for place in surplus)
        early = Counter(self.experiments[row] for row in self.early if row not in kept)
        return early, Counter(self.experiments[row] for row in self.cancelled)


class _WaitingKeeper:
    """Keeper of the rewards that wait, in the transaction of the others.

    Attributes:
        surplus: places among those that wait for which there was no room.
    """

    def __init__(self, store: Store, placed: _PlacedRewards, actor: Actor, now: float) -> None:
        self.surplus: Sequence[int] = ()
        self._store = store
        self._placed = placed
        self._actor = actor
        self._now = now

    def __call__(self, transaction: Any, _: Sequence[int]) -> None:
        """Keep them.

        Raises:
            IdReused: some wait already with another metric or value, in rows behind those of the
                events.
        """
        waiting = self._placed.waiting_events
        try:
            self.surplus = self._store.log.keep_waiting(
                transaction, waiting, actor=self._actor, at=self._now
            )
        except IdReused as error:
            first = len(self._placed.rows)
            rows = [first + row for row in error.rows]
            raise IdReused(error.kind, error.key, rows) from None


class _RewardOutcome(Struct, frozen=True, eq=False):
    """Rewards that were recorded once each.

    Attributes:
        attributed: the rewards, by decision.
        unattributed: the event ids of those that belong to no decision.
        placed: the rewards by decision, by their places among these.
        repeated: positions in `placed.events` of those that were there before.
        surplus: positions in `placed.waiting` of those for which there was no room.
    """

    attributed: AttributedRewards
    unattributed: Sequence[str]
    placed: _PlacedRewards
    repeated: Sequence[int]
    surplus: Sequence[int] = ()

    def receipt(self, first: int, end: int) -> RewardReceipt:
        """Count the outcomes of the rows from `first` to before `end`."""
        attributed, placed, events = self.attributed, self.placed, self.placed.events
        left = _range_of(attributed.unattributed, first, end)
        first, end = attributed.places(first, end)
        rewards = attributed.rewards
        stored = _range_of(placed.rows, first, end)
        repeated = _range_of(self.repeated, stored.start, stored.stop)
        late = sum(events.late[stored.start : stored.stop])
        late -= sum([events.late[self.repeated[i]] for i in repeated])
        waiting = _range_of(placed.waiting, first, end)
        surplus = _range_of(self.surplus, waiting.start, waiting.stop)
        return RewardReceipt(
            len(stored) - len(repeated) - late,
            len(repeated),
            late,
            [rewards[placed.unknown[i]].decision_id for i in _range_of(placed.unknown, first, end)],
            [rewards[placed.early[i]].decision_id for i in _range_of(placed.early, first, end)],
            sum(events.skewed[stored.start : stored.stop]),
            unattributed=[self.unattributed[i] for i in left],
            waiting=len(waiting) - len(surplus),
            cancelled=len(_range_of(placed.cancelled, first, end)),
        )


def _fitting(
    rewards: Sequence[Reward], record: Callable[[Sequence[Reward]], _RewardOutcome]
) -> RewardReceipt:
    """Record those rewards that fit, and list the others in the receipt.

    Args:
        rewards: of one call.
        record: all that it is given, or raises `InvalidInput` or `IdReused`, which name rows.

    Raises:
        InvalidInput: there are too many.
    """
    if len(rewards) > MAX_BATCH:
        raise InvalidInput.at("/rewards", f"must be at most {MAX_BATCH:,}")
    refused: dict[int, RefusedRow] = {}
    while True:  # each time with fewer rows
        left = [row for row in range(len(rewards)) if row not in refused]
        reason: RefusalReason
        try:
            outcome = record([rewards[row] for row in left])
        except InvalidInput as error:
            reason = "invalid"
            details = {int(f.pointer.split("/")[2]): f.detail for f in reversed(error.faults)}
        except IdReused as error:
            reason = "id_reused"
            details = dict.fromkeys(error.rows, _REUSED)
        else:
            receipt = outcome.receipt(0, len(left))
            return replace(receipt, refused=[refused[row] for row in sorted(refused)])
        for place, detail in details.items():
            row = left[place]
            refused[row] = RefusedRow(row, rewards[row].decision_id or None, reason, detail)


def _range_of(rows: Sequence[int], first: int, end: int) -> range:
    """Return the positions in ascending rows of those from `first` to before `end`."""
    return range(bisect_left(rows, first), bisect_left(rows, end))


def _place(  # noqa: PLR0913 - rewards, when, and how it is done
    store: Store,
    attributed: AttributedRewards,
    now: float,
    most_faults: int,
    traces: Sequence[EventTrace | None],
    *,
    wait: bool,
) -> _PlacedRewards:
    """Look up the decisions of rewards, check their values, and place them in time.

    Where early ones `wait`, those do whose decision does not exist or waits for its activation.

    Raises:
        InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range.
    """
    rewards = attributed.rewards
    targets = store.log.targets([reward.decision_id for reward in rewards])
    records: dict[str, ExperimentRecord] = {}
    # Clocks of the decisions, metrics and values that fit each other.
    clocks: dict[tuple[DecisionRef, str, float, bool], RewardClock] = {}
    rows: list[int] = []
    refs: list[DecisionRef] = []
    placed: list[PlacedTime] = []
    unknown: list[int] = []
    early: list[int] = []
    cancelled: list[int] = []
    waiting: list[int] = []
    experiments: dict[int, int] = {}
    faults: list[Fault] = []
    for row, (reward, ref) in enumerate(zip(rewards, targets.refs, strict=True)):
        if ref is None:
            unknown.append(row)
            waiting.append(row)
            continue
        key = (ref, reward.metric, reward.value, reward.as_of is None)
        clock = clocks.get(key)
        if clock is None:
            if ref.experiment not in records:
                records[ref.experiment] = store.experiments.record(ref.experiment)
            record = records[ref.experiment]
            if fault := _fault(record, row, reward):
                faults.append(fault)
                continue
            clock = clocks[key] = RewardClock(record, ref, now)
        time = clock.reported if reward.occurred_at is None else clock.place(reward.occurred_at)
        if time is None:
            experiments[row] = ref.experiment_id
            (cancelled if ref.cancelled else early).append(row)
            if ref.started_at is None and not ref.cancelled:
                waiting.append(row)
            continue
        rows.append(row)
        refs.append(ref)
        placed.append(time)
    if faults:
        raise InvalidInput(attributed.at_rows(InvalidInput(faults)).faults[:most_faults])
    kept = rewards if len(rows) == len(rewards) else [rewards[row] for row in rows]
    times, late, skewed = zip(*placed, strict=True) if placed else ((), (), ())
    events = Events(
        refs,
        [targets.numbers[row] for row in rows],
        [r.event_id for r in kept],
        [r.metric for r in kept],
        [r.value for r in kept],
        times,
        late,
        skewed,
        [traces[attributed.rows[row]] for row in rows] if traces else (),
        as_of_seconds(kept),
    )
    if not wait:
        waiting = []
    kept_events = [
        _waiting_event(rewards[row], traces[attributed.rows[row]] if traces else None, now)
        for row in waiting
    ]
    return _PlacedRewards(
        unknown, early, cancelled, rows, events, waiting, kept_events, experiments
    )


def _waiting_event(reward: Reward, trace: EventTrace | None, now: float) -> WaitingEvent:
    at = now if reward.occurred_at is None else min(reward.occurred_at.timestamp(), now)
    as_of = None if reward.as_of is None else reward.as_of.timestamp()
    return WaitingEvent(
        reward.decision_id, reward.event_id, reward.metric, reward.value, at, trace, as_of
    )


def as_of_seconds(rewards: Sequence[Reward]) -> Sequence[float | None]:
    """Return the `as_of` of rewards, seconds since 1970; nothing where none has any."""
    times = [reward.as_of for reward in rewards]
    if times.count(None) == len(times):
        return ()
    return [None if time is None else time.timestamp() for time in times]


def _fault(record: ExperimentRecord, row: int, reward: Reward) -> Fault | None:
    rule = record.configuration.experiment.reward
    detail = refuse_value(rule, reward.metric, reward.value)
    if detail is None:
        if reward.as_of is None and rule.needs_as_of(reward.metric):
            return Fault(pointer("rewards", row, "as_of"), AS_OF_REQUIRED)
        return None
    exists = reward.metric in rule.event_names
    return Fault(pointer("rewards", row, "value" if exists else "metric"), detail)


def _refuse_ids(rewards: Sequence[Reward], actor: Actor, most_faults: int) -> None:
    """Refuse rewards that lack a field or have ids of other characters or of others' events.

    Raises:
        InvalidInput: some are so.
    """
    faults = [
        Fault(pointer("rewards", row, name), "is required") for row, name in missing_fields(rewards)
    ]
    event_ids = [r.event_id for r in rewards]
    columns = {
        "decision_id": [r.decision_id for r in rewards],
        "event_id": list(sent_event_ids(actor, event_ids)),
    }
    for name, ids in columns.items():
        if "" in ids:  # of a subject, or missing
            columns[name] = [i or "-" for i in ids]
    faults += [
        Fault(pointer("rewards", row, name), f"must be {ID_TOLD}")
        for name, ids in columns.items()
        for row in misfits(ids)
    ]
    faults += [
        Fault(pointer("rewards", row, "event_id"), RESERVED_TOLD)
        for row in foreign_rows(actor, event_ids)
    ]
    if faults:
        raise InvalidInput(faults[:most_faults])
