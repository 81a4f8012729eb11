"""Record rewards: the events that recipients cause, each placed in time and counted once."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate, chain, pairwise

from msgspec import Struct

from bandits.batching_queue import BatchingQueue
from bandits.engine.choose import MAX_BATCH
from bandits.errors import Fault, InvalidInput, Unavailable
from bandits.identifiers import pointer
from bandits.rewards import refuse_value
from bandits.schemas import ID_TOLD, Reward, RewardReceipt, misfits
from bandits.store import StaleRead, Store
from bandits.store.values import DecisionRef, Events, ExperimentRecord

SKEW_SECONDS = 300.0  # how far a sender's clock may run behind or ahead of ours


def resolve_event_time(
    told: datetime | None, started_at: float, now: float
) -> tuple[float, bool] | None:
    """Place an event in time, by our clock; None where it is too early to be of its decision.

    Nothing happens after it is reported, so what is told from the future happened now. Nobody
    answers an email before it is sent either: where our own clock was stepped back since, what is
    reported without a time happened at the start.

    Args:
        told: when it happened by the sender's clock, if that was told.
        started_at: when the decision's clocks started, seconds since 1970.
        now: the same, by our clock.

    Returns:
        When it happened, and whether the two clocks are further apart than is forgiven.
    """
    newest = max(now, started_at)
    if told is None:
        return newest, False
    moment = told.timestamp()
    if moment < started_at - SKEW_SECONDS:
        return None
    return min(moment, newest), moment > now + SKEW_SECONDS


_MOST_FAULTS = 100
_ATTEMPTS = 5
_FEW = 50  # rewards of a call that is recorded together with others

_Placed = tuple[float, bool, bool]  # when it happened, whether that is late, whether it is skewed


class RewardHandler:
    """Who records what recipients did."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Record in `store`; `clock` gives seconds since 1970."""
        self._store = store
        self._clock = clock
        self._queue: BatchingQueue[Sequence[Reward], RewardReceipt] = BatchingQueue(
            self._alone, self._together
        )

    def record(self, rewards: Sequence[Reward]) -> RewardReceipt:
        """Record rewards, as `Engine.reward` declares."""
        if len(rewards) > MAX_BATCH:
            raise InvalidInput.at("/rewards", f"must be at most {MAX_BATCH:,}")
        return self._alone(rewards) if len(rewards) > _FEW else self._queue.do(rewards)

    def _alone(self, rewards: Sequence[Reward]) -> RewardReceipt:
        return self._together([rewards])[0]

    def _together(self, calls: Sequence[Sequence[Reward]]) -> list[RewardReceipt]:
        """Record the rewards of several calls, all of them or none."""
        rewards = calls[0] if len(calls) == 1 else list(chain.from_iterable(calls))
        for _ in range(_ATTEMPTS):
            try:
                recorded = _record(self._store, rewards, self._clock())
            except StaleRead:  # a decision was erased since it was looked up: it is unknown now
                continue
            ends = list(accumulate(map(len, calls), initial=0))
            return [recorded.receipt(first, end) for first, end in pairwise(ends)]
        raise Unavailable("decisions of these rewards are being erased")


class _RewardOutcome(Struct, frozen=True, eq=False):
    """Rewards that were recorded once each; rows are positions among all of them, ascending.

    Attributes:
        ids: of the decisions they are of.
        unknown: rows of those that no decision was made for,
        early: of those that came before their decision's clock ran,
        rows: and of all others.
        events: what was stored of these,
        repeated: and which of them were there before.
    """

    ids: Sequence[str]
    unknown: Sequence[int]
    early: Sequence[int]
    rows: Sequence[int]
    events: Events
    repeated: Sequence[int]

    def receipt(self, first: int, end: int) -> RewardReceipt:
        """Tell what became of those from `first` to before `end`."""
        stored = _within(self.rows, first, end)
        repeated = _within(self.repeated, stored.start, stored.stop)
        late = sum(self.events.late[i] for i in stored)
        late -= sum(self.events.late[self.repeated[i]] for i in repeated)
        return RewardReceipt(
            len(stored) - len(repeated) - late,
            len(repeated),
            late,
            [self.ids[self.unknown[i]] for i in _within(self.unknown, first, end)],
            [self.ids[self.early[i]] for i in _within(self.early, first, end)],
            sum(self.events.skewed[i] for i in stored),
        )


def _within(rows: Sequence[int], first: int, end: int) -> range:
    """Tell where ascending rows lie from `first` to before `end`."""
    return range(bisect_left(rows, first), bisect_left(rows, end))


def _record(store: Store, rewards: Sequence[Reward], now: float) -> _RewardOutcome:
    """Record rewards, all of them or none.

    Raises:
        InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range.
        IdReused: an event id came before with another metric or value.
        Outdated: a decision was erased since it was looked up.
    """
    ids = [r.decision_id for r in rewards]
    _refuse_ids(ids, [r.event_id for r in rewards])
    targets = store.log.targets(ids)
    records: dict[str, ExperimentRecord] = {}
    clocks: dict[
        tuple[DecisionRef, str, float], _RewardClock
    ] = {}  # where the metric and its value fit
    rows: list[int] = []  # that can be stored, with what is known of their decisions
    known: list[DecisionRef] = []
    placed: list[_Placed] = []
    unknown: list[int] = []
    early: list[int] = []
    before: Counter[int] = Counter()  # the early ones of each experiment
    faults: list[Fault] = []
    for row, (reward, target) in enumerate(zip(rewards, targets.refs, strict=True)):
        if target is None:
            unknown.append(row)
            continue
        told = (target, reward.metric, reward.value)
        clock = clocks.get(told)
        if clock is None:
            if target.experiment not in records:
                records[target.experiment] = store.experiments.record(target.experiment)
            mine = records[target.experiment]
            if fault := _fault(mine, row, reward):
                faults.append(fault)
                continue
            clock = clocks[told] = _RewardClock(mine, target, now)
        at = clock.untold if reward.occurred_at is None else clock.place(reward.occurred_at)
        if at is None:
            early.append(row)
            before[target.experiment_id] += 1
            continue
        rows.append(row)
        known.append(target)
        placed.append(at)
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
    kept = rewards if len(rows) == len(rewards) else [rewards[row] for row in rows]
    events = Events(
        known,
        [targets.numbers[row] for row in rows],
        [r.event_id for r in kept],
        [r.metric for r in kept],
        [r.value for r in kept],
        *(zip(*placed, strict=True) if placed else ((), (), ())),
    )
    repeated = store.log.append_events(events, at=now)
    if before:
        store.log.note_early(before, at=now)
    return _RewardOutcome(ids, unknown, early, rows, events, repeated)


class _RewardClock:
    """When rewards happened of decisions that share a target."""

    def __init__(self, record: ExperimentRecord, target: DecisionRef, now: float) -> None:
        """Take what it is now by the server's clock."""
        closed = record.closes_at is not None and now > record.closes_at
        self._all_late = closed and not target.shipped  # a stopped experiment's result is final
        self._window = record.configuration.experiment.reward.window_seconds
        self._started_at = target.started_at
        self._now = now
        self.untold = self.place(None)

    def place(self, told: datetime | None) -> _Placed | None:
        """Place one by what the sender's clock says, if it does; None where it came too early."""
        if self._started_at is None:
            return None
        found = resolve_event_time(told, self._started_at, self._now)
        if found is None:
            return None
        at, skewed = found
        return at, self._all_late or at > self._started_at + self._window, skewed


def _fault(record: ExperimentRecord, row: int, reward: Reward) -> Fault | None:
    rule = record.configuration.experiment.reward
    detail = refuse_value(rule, reward.metric, reward.value)
    if detail is None:
        return None
    return Fault(
        pointer("rewards", row, "value" if reward.metric in rule.metrics else "metric"), detail
    )


def _refuse_ids(decision_ids: Sequence[str], event_ids: Sequence[str]) -> None:
    """Refuse ids of other characters than `Id` takes.

    Raises:
        InvalidInput: some have them.
    """
    columns = {"decision_id": decision_ids, "event_id": event_ids}
    faults = [
        Fault(pointer("rewards", row, name), f"must be {ID_TOLD}")
        for name, ids in columns.items()
        for row in misfits(ids)
    ]
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
