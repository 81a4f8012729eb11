"""Recording what recipients did."""

from collections import Counter
from collections.abc import Sequence

from bandits.engine.happening import happened
from bandits.errors import Fault, InvalidInput
from bandits.keys import pointer
from bandits.logged import Event
from bandits.messages import ID_TOLD, Reward, RewardReceipt, misfits
from bandits.records import Record
from bandits.rewards import refuse_value
from bandits.store import Store

_MOST_FAULTS = 100


def record(store: Store, rewards: Sequence[Reward], now: float) -> RewardReceipt:
    """Record rewards, once each; doubled, late, early and unknown ones are told.

    Raises:
        InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range; nothing
            was recorded.
        IdReused: an event id came before with another metric or value; nothing was recorded.
        NotFound: a decision was erased since it was looked up; nothing was recorded.
    """
    _refuse_ids(rewards)
    targets = store.targets(list(dict.fromkeys(r.decision_id for r in rewards)))
    records = [store.record(e) for e in {t.experiment for t in targets.values()}]
    rules = {r.key: (r.configuration.experiment.reward, _closed(r, now)) for r in records}
    events: list[Event] = []
    unknown: list[str] = []
    early: list[str] = []
    before: Counter[int] = Counter()  # the early ones of each experiment
    faults: list[Fault] = []
    fitting: set[tuple[str, str, float]] = set()  # of an experiment, metrics and values
    for row, reward in enumerate(rewards):
        decision_id = reward.decision_id
        target = targets.get(decision_id)
        if target is None:
            unknown.append(decision_id)
            continue
        rule, closed = rules[target.experiment]
        metric, value = reward.metric, reward.value
        told = (target.experiment, metric, value)
        if told not in fitting:
            if detail := refuse_value(rule, metric, value):
                at_fault = "value" if metric in rule.metrics else "metric"
                faults.append(Fault(pointer("rewards", row, at_fault), detail))
                continue
            fitting.add(told)
        started_at = target.started_at
        found = None if started_at is None else happened(reward.occurred_at, started_at, now)
        if started_at is None or found is None:
            early.append(decision_id)
            before[target.experiment_id] += 1
            continue
        occurred_at, skewed = found
        late = (closed and not target.shipped) or occurred_at > started_at + rule.window_seconds
        events.append(Event(decision_id, reward.event_id, metric, value, occurred_at, late, skewed))
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
    appended = store.append_events(events, targets, at=now)
    if before:
        store.note_early(before, at=now)
    return RewardReceipt(
        appended.accepted,
        appended.repeated,
        appended.late,
        unknown,
        early,
        sum(e.skewed for e in events),
    )


def _refuse_ids(rewards: Sequence[Reward]) -> None:
    """Refuse ids of other characters than `Id` takes.

    Raises:
        InvalidInput: some have them.
    """
    columns = {
        "decision_id": [r.decision_id for r in rewards],
        "event_id": [r.event_id for r in rewards],
    }
    faults = [
        Fault(pointer("rewards", row, name), ID_TOLD)
        for name, ids in columns.items()
        for row in misfits(ids)
    ]
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])


def _closed(record: Record, now: float) -> bool:
    """Tell whether a stopped experiment's result is final."""
    return record.closes_at is not None and now > record.closes_at
