"""Recording what recipients did."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from bandits.engine.happening import happened
from bandits.errors import Fault, InvalidInput, Unavailable
from bandits.keys import pointer
from bandits.logged import Events, Target
from bandits.messages import ID_TOLD, Reward, RewardReceipt, misfits
from bandits.records import Record
from bandits.rewards import refuse_value
from bandits.store import Outdated, Store

_MOST_FAULTS = 100
_ATTEMPTS = 5

_Placed = tuple[float, bool, bool]  # when it happened, whether that is late, whether it is skewed


def record(store: Store, rewards: Sequence[Reward], now: float) -> RewardReceipt:
    """Record rewards, once each; doubled, late, early and unknown ones are told.

    Raises:
        InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range; nothing
            was recorded.
        IdReused: an event id came before with another metric or value; nothing was recorded.
        Unavailable: their decisions are being erased, portion after portion; nothing was recorded.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _record(store, rewards, now)
        except Outdated:  # a decision was erased since it was looked up: it is unknown now
            continue
    raise Unavailable("decisions of these rewards are being erased")


def _record(store: Store, rewards: Sequence[Reward], now: float) -> RewardReceipt:
    ids = [r.decision_id for r in rewards]
    _refuse_ids(ids, [r.event_id for r in rewards])
    targets = store.targets(ids)
    records: dict[str, Record] = {}
    clocks: dict[tuple[Target, str, float], _Clock] = {}  # where the metric and its value fit
    rows: list[int] = []  # that can be stored, with what is known of their decisions
    known: list[Target] = []
    placed: list[_Placed] = []
    unknown: list[str] = []
    early: list[str] = []
    before: Counter[int] = Counter()  # the early ones of each experiment
    faults: list[Fault] = []
    for row, (reward, target) in enumerate(zip(rewards, targets.known, strict=True)):
        if target is None:
            unknown.append(reward.decision_id)
            continue
        told = (target, reward.metric, reward.value)
        clock = clocks.get(told)
        if clock is None:
            if target.experiment not in records:
                records[target.experiment] = store.record(target.experiment)
            mine = records[target.experiment]
            if fault := _fault(mine, row, reward):
                faults.append(fault)
                continue
            clock = clocks[told] = _Clock(mine, target, now)
        at = clock.untold if reward.occurred_at is None else clock.place(reward.occurred_at)
        if at is None:
            early.append(reward.decision_id)
            before[target.experiment_id] += 1
            continue
        rows.append(row)
        known.append(target)
        placed.append(at)
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
    occurred_at, late, skewed = zip(*placed, strict=True) if placed else ((), (), ())
    kept = rewards if len(rows) == len(rewards) else [rewards[row] for row in rows]
    events = Events(
        known,
        [targets.numbers[row] for row in rows],
        [r.event_id for r in kept],
        [r.metric for r in kept],
        [r.value for r in kept],
        occurred_at,
        late,
        skewed,
    )
    appended = store.append_events(events, at=now)
    if before:
        store.note_early(before, at=now)
    return RewardReceipt(
        appended.accepted,
        appended.repeated,
        appended.late,
        unknown,
        early,
        sum(skewed),
    )


class _Clock:
    """When rewards happened of decisions that share a target."""

    def __init__(self, record: Record, target: Target, now: float) -> None:
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
        found = happened(told, self._started_at, self._now)
        if found is None:
            return None
        at, skewed = found
        return at, self._all_late or at > self._started_at + self._window, skewed


def _fault(record: Record, row: int, reward: Reward) -> Fault | None:
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
        Fault(pointer("rewards", row, name), ID_TOLD)
        for name, ids in columns.items()
        for row in misfits(ids)
    ]
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
