"""Record signals: events that senders report by themselves, each for itself, in one transaction.

A sender's delivery has events of many emails, and is not sent again for one of them. So one that
does not fit is refused alone, and one whose decision's clock does not run yet is handed back. What
the caller keeps of the delivery is written in the transaction of the events.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from msgspec import Struct

from bandits.actors import Actor
from bandits.engine.attribution import SKEW_SECONDS, AttributedRewards, attribute
from bandits.engine.event_time import PlacedTime, RewardClock
from bandits.engine.record_rewards import as_of_seconds
from bandits.errors import IdReused, InvalidInput, Unavailable
from bandits.machines import EventTrace
from bandits.rewards import AS_OF_REQUIRED, refuse_value
from bandits.schemas import Reward
from bandits.store import StaleRead, Store
from bandits.store.values import DecisionRef, Events, KeptEvent

WAITING_SECONDS = 86_400.0  # that an event may come before its decision's clock runs
REUSED = "this event came before with another metric, value or as_of; the first one counts"
TOO_EARLY = "it happened more than a day before its email was chosen or activated"
_ATTEMPTS = 5


class SignalOutcome(Struct, frozen=True):
    """Outcome of signals.

    Attributes:
        recorded: number of those counted,
        repeated: that were there before,
        late: and that came too late to count; one of several decisions counts for each.
        unattributed: number of those by subject that belong to no decision.
        cancelled: number of those whose decision was cancelled before it was activated.
        waiting: rows of those whose decision does not exist, or waits for its activation.
        refused: why, by row, of those that did not fit.
    """

    recorded: int
    repeated: int
    late: int
    unattributed: int
    cancelled: int
    waiting: Sequence[int]
    refused: Mapping[int, str]


class SettledEvents(Struct, frozen=True):
    """Events that waited, and do no longer.

    Attributes:
        count: their number.
        refused: why, by actor, of those that did not fit their decision.
    """

    count: int
    refused: Mapping[Actor, Sequence[str]]


Keep = Callable[[Any, SignalOutcome], None]  # in the store's transaction, maybe more than once


class SignalHandler:
    """Handler of signals."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Record in `store`; `clock` gives seconds since 1970."""
        self._store = store
        self._clock = clock

    def record(
        self,
        signals: Sequence[Reward],
        *,
        actor: Actor,
        traces: Sequence[EventTrace | None] = (),
        keep: Keep | None = None,
    ) -> SignalOutcome:
        """Record signals, as `Engine.record_signals` declares."""
        refused: dict[int, str] = {}
        stale = 0
        while stale < _ATTEMPTS:
            rows = [row for row in range(len(signals)) if row not in refused]
            portion = _Portion(rows, [signals[row] for row in rows], traces, refused)
            try:
                return self._append(portion, actor, keep)
            except StaleRead:  # a decision was erased since it was looked up
                stale += 1
            except IdReused as error:
                places = error.rows or range(len(rows))
                refused.update(dict.fromkeys([rows[place] for place in places], REUSED))
            except InvalidInput as error:
                refused.update(_reasons(error, rows))
        raise Unavailable("decisions of these events are being erased")

    def settle(self, *, limit: int) -> SettledEvents:
        """Record events that waited, as `Engine.settle_waiting` declares."""
        ready = self._store.log.ready_events(limit=limit)
        refused: dict[Actor, Sequence[str]] = {}
        for actor, group in groupby(ready, key=lambda kept: kept.actor):
            reasons = self._settle(actor, list(group))
            if reasons:
                refused[actor] = reasons
        return SettledEvents(len(ready), refused)

    def _settle(self, actor: Actor, group: Sequence[KeptEvent]) -> Sequence[str]:
        """Record events of an actor that waited, and return why some were refused."""
        events = [kept.event for kept in group]
        signals = [
            Reward(
                event.decision_id,
                event.event_id,
                event.metric,
                event.value,
                datetime.fromtimestamp(event.occurred_at, UTC),
                as_of=None if event.as_of is None else datetime.fromtimestamp(event.as_of, UTC),
            )
            for event in events
        ]
        outcome = self.record(
            signals,
            actor=actor,
            traces=[event.trace for event in events],
            keep=lambda transaction, _: self._store.log.remove_waiting(transaction, group),
        )
        return [outcome.refused[row] for row in sorted(outcome.refused)]

    def _append(self, portion: "_Portion", actor: Actor, keep: Keep | None) -> SignalOutcome:
        """Append what fits of a portion, and keep what becomes of it.

        Raises:
            InvalidInput: at ``/rewards/{place}/...``: events by subject that nothing can take.
            IdReused: events came before with another metric, value or subject, in the places that
                it names.
            StaleRead: a decision was erased since it was looked up.
        """
        now = self._clock()
        most = len(portion.signals)
        attributed = attribute(
            self._store, portion.signals, source=actor, now=now, most_faults=most
        )
        placed = _place(self._store, attributed, portion, now)
        outcomes: list[SignalOutcome] = []

        def write(transaction: Any, repeated: Sequence[int]) -> None:
            outcomes.append(_outcome(portion, attributed, placed, repeated))
            if keep is not None:
                keep(transaction, outcomes[-1])

        try:
            self._store.log.append_events(
                placed.events, actor=actor, at=now, grouped=True, beside=write
            )
        except IdReused as error:
            places = sorted({attributed.rows[placed.places[i]] for i in error.rows})
            raise IdReused(error.kind, error.key, places) from None
        if placed.cancelled:
            self._store.log.note_unkept({}, placed.cancelled, actor=actor, at=now)
        return outcomes[-1]


class _Portion(Struct, frozen=True, eq=False):
    """Signals that were not refused so far.

    Attributes:
        rows: of each among all signals.
        traces: of all signals; empty where none has one.
        refused: why, by row, of all others.
    """

    rows: Sequence[int]
    signals: Sequence[Reward]
    traces: Sequence[EventTrace | None]
    refused: Mapping[int, str]

    def trace(self, place: int) -> EventTrace | None:
        """Return the trace of the signal at a place of this portion."""
        return self.traces[self.rows[place]] if self.traces else None


class _PlacedSignals(Struct, frozen=True, eq=False):
    """Signals by decision with their times; places are those among the attributed ones.

    Attributes:
        places: of those that are appended, ascending.
        events: these, as they are stored.
        waiting: places of those whose decision's clock does not run,
        refused: and of those that do not fit, with the reason.
        cancelled: number of those whose decision was cancelled before it ran, by experiment.
    """

    places: Sequence[int]
    events: Events
    waiting: Sequence[int]
    refused: Mapping[int, str]
    cancelled: Counter[int]


def _place(
    store: Store, attributed: AttributedRewards, portion: _Portion, now: float
) -> _PlacedSignals:
    """Look up the decisions of signals, check their values, and place them in time.

    Senders report what happened; a decision's clock starts when we were told of the sending, which
    may be later. So an event from before that start counts as of it; what is kept of the request
    behind it has its own time.
    """
    signals = attributed.rewards
    targets = store.log.targets([signal.decision_id for signal in signals])
    clocks: dict[tuple[DecisionRef, str, float, bool], RewardClock | str] = {}
    places: list[int] = []
    refs: list[DecisionRef] = []
    times: list[PlacedTime] = []
    traces: list[EventTrace | None] = []
    waiting: list[int] = []
    refused: dict[int, str] = {}
    cancelled: Counter[int] = Counter()
    for place, (signal, ref) in enumerate(zip(signals, targets.refs, strict=True)):
        if ref is None or ref.started_at is None:
            if ref is not None and ref.cancelled:
                cancelled[ref.experiment_id] += 1
            else:
                waiting.append(place)
            continue
        key = (ref, signal.metric, signal.value, signal.as_of is None)
        clock = clocks.get(key)
        if clock is None:
            clock = clocks[key] = _clock(store, signal, ref, now)
        if isinstance(clock, str):
            refused[place] = clock
            continue
        time, trace = clock.reported, portion.trace(attributed.rows[place])
        if signal.occurred_at is not None:
            time, trace = _moved(signal.occurred_at, ref.started_at, clock, trace)
        if time is None:
            refused[place] = TOO_EARLY
            continue
        places.append(place)
        refs.append(ref)
        times.append(time)
        traces.append(trace)
    at, late, skewed = zip(*times, strict=True) if times else ((), (), ())
    kept = [signals[place] for place in places]
    events = Events(
        refs,
        [targets.numbers[place] for place in places],
        [signal.event_id for signal in kept],
        [signal.metric for signal in kept],
        [signal.value for signal in kept],
        at,
        late,
        skewed,
        traces,
        as_of_seconds(kept),
    )
    return _PlacedSignals(places, events, waiting, refused, cancelled)


def _moved(
    happened_at: datetime, started_at: float, clock: RewardClock, trace: EventTrace | None
) -> tuple[PlacedTime | None, EventTrace | None]:
    """Place an event in time, at its decision's start where it happened before; None: too early."""
    lead = started_at - happened_at.timestamp()
    if lead > WAITING_SECONDS:
        return None, trace
    if lead <= SKEW_SECONDS:
        return clock.place(happened_at), trace
    if trace is not None:
        trace = trace._replace(happened_at=happened_at.timestamp())
    return clock.place(datetime.fromtimestamp(started_at, UTC)), trace


def _clock(store: Store, signal: Reward, ref: DecisionRef, now: float) -> RewardClock | str:
    """Return the clock of a signal's decision; where it does not fit that, the reason."""
    record = store.experiments.recent(ref.experiment)
    rule = record.configuration.experiment.reward
    fault = refuse_value(rule, signal.metric, signal.value)
    if fault is not None:
        return f"campaign {ref.experiment}: {fault}"
    if signal.as_of is None and rule.needs_as_of(signal.metric):
        return f"campaign {ref.experiment}: as_of {AS_OF_REQUIRED}"
    return RewardClock(record, ref, now)


def _outcome(
    portion: _Portion,
    attributed: AttributedRewards,
    placed: _PlacedSignals,
    repeated: Sequence[int],
) -> SignalOutcome:
    late = sum(placed.events.late) - sum([placed.events.late[place] for place in repeated])
    rows = [portion.rows[place] for place in attributed.rows]
    return SignalOutcome(
        len(placed.places) - len(repeated) - late,
        len(repeated),
        late,
        len(attributed.unattributed),
        placed.cancelled.total(),
        [rows[place] for place in placed.waiting],
        {**portion.refused, **{rows[place]: why for place, why in placed.refused.items()}},
    )


def _reasons(error: InvalidInput, rows: Sequence[int]) -> dict[int, str]:
    """Return the reason of each row that an error names; of all of them where it names none."""
    reasons: dict[int, str] = {}
    for fault in reversed(error.faults):
        _, *path = fault.pointer.split("/")
        if len(path) > 1 and path[1].isdecimal():
            reasons[rows[int(path[1])]] = fault.detail
    return reasons or dict.fromkeys(rows, str(error))
