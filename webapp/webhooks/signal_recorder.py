"""Signal recorder: events of a delivery become rewards of decisions, each for itself.

An event is matched by the decision ids that the sender passed through, else by the mailer's id of
the email where those are told, else by its subject and time where an experiment is found so. It is
recorded by the engine, which counts it once by decision and event id. One whose decision does not
exist yet, or waits for its activation, waits too; one that does not fit is refused alone, with the
reason.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.actors import Actor, actor_of
from bandits.engine import MAX_BATCH, Engine
from bandits.engine.attribution import SKEW_SECONDS
from bandits.errors import IdReused, InvalidInput
from bandits.event_ids import connection_event_id, sent_event_ids
from bandits.machines import EventTrace, event_trace
from bandits.rewards import refuse_value
from bandits.schemas import ID_TOLD, Reward, Tracking, misfits
from bandits.store.values import DecisionRef
from storage.connections import (
    Connection,
    DeliveryOutcome,
    NewRefusal,
    NewUnmatchedEvent,
    UnmatchedEvent,
)
from storage.connections.unmatched_events import UNMATCHED_SECONDS
from webapp.signals.delivery import Delivery, DeliveryRefused
from webapp.signals.signal_event import SignalBatch, SignalEvent

Parse = Callable[[Delivery], SignalBatch]

REUSED = "this event came before with another metric or value; the first one counts"
_NO_TIME = "an event that names its subject alone needs its time, which tells the email"
_TRACKED = frozenset({"open", "click", "machine_open"})
_TOO_EARLY = "it happened more than a day before its email was chosen or activated"


class RefusedSignal(Struct, frozen=True, omit_defaults=True):
    """Content of a refused event: one that was read, or the delivery of one that could not be."""

    event: SignalEvent | None = None
    delivery: Delivery | None = None

    @property
    def text(self) -> bytes:
        """The event as people read it, and as its subject is looked for."""
        return msgspec.json.encode(self.event) if self.delivery is None else self.delivery.body


class _Row(Struct, frozen=True):
    """An event of one decision, or of a subject, and the reward that it is recorded as."""

    event: SignalEvent
    reward: Reward
    trace: EventTrace | None = None  # in place of the reward's tracking, where there is one


class _Outcome:
    """Outcome of one delivery while its events are recorded, in the name of `actor`."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.recorded = self.repeated = self.late = self.without_decision = 0
        self.unmatched: list[NewUnmatchedEvent] = []
        self.refused: list[NewRefusal] = []

    def result(self) -> DeliveryOutcome:
        """Return the outcome as the store keeps it."""
        counts = (self.recorded, self.repeated, self.late, self.without_decision)
        return DeliveryOutcome(*counts, self.unmatched, self.refused)


class SignalRecorder:
    """Recorder of signals in the log of an engine."""

    def __init__(self, engine: Engine) -> None:
        """Record by `engine`."""
        self._engine = engine

    def record(self, connection: Connection, batch: SignalBatch) -> DeliveryOutcome:
        """Record the events of a delivery that was proved; again, it changes nothing.

        Raises:
            Unavailable: the store cannot record; what was recorded so far is found repeated when
                the delivery comes again.
        """
        return self.record_as(actor_of("connection", connection.key), connection.metrics, batch)

    def record_as(
        self, actor: Actor, metrics: Mapping[str, str], batch: SignalBatch
    ) -> DeliveryOutcome:
        """Record events in the name of an actor; again, it changes nothing.

        Args:
            actor: that the log names.
            metrics: the metric that events of a name feed, where it is not the name itself.
            batch: the events.

        Raises:
            Unavailable: as `record`.
        """
        outcome = _Outcome(actor)
        for unread in batch.unreadable:
            outcome.refused.append(_refusal(unread.reason, RefusedSignal(delivery=unread.delivery)))
        rows: list[_Row] = []
        others: list[tuple[SignalEvent, str]] = []
        for event in batch.events:
            metric = metrics.get(event.name, event.name)
            rows += [_row(actor, event, i, metric) for i in event.decision_ids]
            if not event.decision_ids:
                others.append((event, metric))
        of_subjects: list[_Row] = []
        if others:
            of_messages, of_subjects = self._match(others, outcome)
            rows += of_messages
        rows, of_subjects = _well_formed(rows, outcome), _well_formed(of_subjects, outcome)
        for start in range(0, len(rows), MAX_BATCH):
            self._record_portion(rows[start : start + MAX_BATCH], outcome)
        for start in range(0, len(of_subjects), MAX_BATCH):
            self._record_all(of_subjects[start : start + MAX_BATCH], outcome)
        return outcome.result()

    def _match(
        self, events: Sequence[tuple[SignalEvent, str]], outcome: "_Outcome"
    ) -> tuple[list[_Row], list[_Row]]:
        """Match events that name no decision; return rows of decisions, and rows of subjects.

        One whose message id was not told yet waits for that, where such ids are told at all.

        Args:
            events: with the metrics that they feed.
            outcome: takes those that match nothing.
        """
        actor, log, now = outcome.actor, self._engine.store.log, self._engine.clock()
        names = {e.message_id for e, _ in events if e.message_id is not None}
        decisions = log.message_decisions(sorted(names)) if names else {}
        waits = bool(names) and log.has_message_ids()
        found_by_subject = bool(self._engine.store.experiments.found_by_subject())
        of_messages: list[_Row] = []
        of_subjects: list[_Row] = []
        for event, metric in events:
            subject_id = event.subject_id or event.recipient
            if ids := decisions.get(event.message_id or ""):
                of_messages += [_row(actor, event, i, metric) for i in ids]
            elif waits and event.message_id is not None:
                waiting = _row(actor, event, "", metric)
                trace = self._trace(waiting)
                outcome.unmatched.append(_unmatched(waiting, trace, now, event.message_id))
            elif not (found_by_subject and subject_id):
                outcome.without_decision += 1
            elif event.occurred_at is None:
                signal = RefusedSignal(replace(event, position=0))
                outcome.refused.append(_refusal(_NO_TIME, signal))
            else:
                of_subjects.append(_row_of_subject(actor, event, subject_id, metric))
        return of_messages, of_subjects

    def replay(self, connection: Connection, content: bytes, parse: Parse) -> DeliveryOutcome:
        """Record an event again that was refused; a delivery was proved when it came.

        Args:
            connection: that received it.
            content: as `NewRefusal.body` has it.
            parse: of the connection's kind.

        Raises:
            Unavailable: the store cannot record.
        """
        signal = msgspec.json.decode(content, type=RefusedSignal)
        if signal.delivery is None:
            events = () if signal.event is None else (signal.event,)
            return self.record(connection, SignalBatch(events))
        try:
            batch = parse(signal.delivery)
        except DeliveryRefused as error:
            return DeliveryOutcome(refused=[_refusal(error.detail, signal)])
        return self.record(connection, batch)

    def settle(self, connection_key: str, events: Sequence[UnmatchedEvent]) -> DeliveryOutcome:
        """Record events of a connection that waited, and whose decisions' clocks run by now.

        An event counts as of the start of that clock where it happened before.
        """
        outcome = _Outcome(actor_of("connection", connection_key))
        rows = []
        sent_ids = sent_event_ids(outcome.actor, [event.event_id for event in events])
        for event, sent_id in zip(events, sent_ids, strict=True):
            occurred_at = datetime.fromtimestamp(event.occurred_at, UTC)
            signal = SignalEvent(
                name=event.metric,
                event_id=sent_id,
                occurred_at=occurred_at,
                decision_ids=(event.decision_id,),
                value=event.value,
            )
            row = _row(outcome.actor, signal, event.decision_id, event.metric)
            rows.append(_Row(signal, replace(row.reward, tracking=None), event.trace))
        self._record_portion(rows, outcome)
        outcome.without_decision += len(outcome.unmatched)  # erased meanwhile
        outcome.unmatched.clear()
        return outcome.result()

    def _record_portion(self, rows: Sequence[_Row], outcome: "_Outcome") -> None:
        refs = self._engine.store.log.targets([row.reward.decision_id for row in rows]).refs
        now = self._engine.clock()
        ready: list[_Row] = []
        faults: dict[tuple[DecisionRef, str, float], str | None] = {}
        for row, ref in zip(rows, refs, strict=True):
            if ref is None or ref.started_at is None:
                outcome.unmatched.append(_unmatched(row, self._trace(row), now))
                continue
            reward = row.reward
            key = (ref, reward.metric, reward.value)
            if key not in faults:
                faults[key] = self._fault(*key)
            fault, lead = faults[key], _lead_seconds(reward, ref.started_at)
            if fault is not None or lead > UNMATCHED_SECONDS:
                outcome.refused.append(_refused_row(fault or _TOO_EARLY, row))
            else:
                ready.append(row if lead <= SKEW_SECONDS else self._moved(row, ref.started_at))
        self._record_all(ready, outcome)

    def _fault(self, ref: DecisionRef, metric: str, value: float) -> str | None:
        """Return what is wrong with a metric or its value for a decision, None if nothing is."""
        record = self._engine.store.experiments.recent(ref.experiment)
        fault = refuse_value(record.configuration.experiment.reward, metric, value)
        return None if fault is None else f"campaign {ref.experiment}: {fault}"

    def _moved(self, row: _Row, started_at: float) -> _Row:
        """Move an event that happened before its decision's clock ran to the start of that clock.

        Mailers report what happened; the start is when we were told of the sending, which may be
        later. What is kept of the request behind it has its own time.
        """
        trace, happened_at = self._trace(row), row.reward.occurred_at
        if trace is not None and happened_at is not None:
            trace = trace._replace(happened_at=happened_at.timestamp())
        reward = replace(row.reward, occurred_at=datetime.fromtimestamp(started_at, UTC))
        return replace(row, reward=reward, trace=trace)

    def _trace(self, row: _Row) -> EventTrace | None:
        """Return what is kept of the request behind an event."""
        tracking = row.reward.tracking
        if row.trace is not None or tracking is None:
            return row.trace
        return event_trace(tracking, row.reward.metric, self._engine.store.log.trace_key())

    def _record_all(self, rows: Sequence[_Row], outcome: "_Outcome") -> None:
        """Record rows that fit; where others make the engine refuse them, half by half."""
        if not rows:
            return
        try:
            rewards = [row.reward for row in rows]
            reduced = any(row.trace is not None for row in rows)
            traces = [self._trace(row) for row in rows] if reduced else None
            receipt = self._engine.reward(rewards, actor=outcome.actor, traces=traces)
        except (IdReused, InvalidInput) as error:
            if len(rows) == 1:
                reason = REUSED if isinstance(error, IdReused) else str(error)
                outcome.refused.append(_refused_row(reason, rows[0]))
                return
            middle = len(rows) // 2
            self._record_all(rows[:middle], outcome)
            self._record_all(rows[middle:], outcome)
            return
        outcome.recorded += receipt.accepted
        outcome.repeated += receipt.repeated
        outcome.late += receipt.late
        outcome.without_decision += len(receipt.unknown) + len(receipt.early)
        outcome.without_decision += len(receipt.unattributed)


def _well_formed(rows: Sequence[_Row], outcome: _Outcome) -> list[_Row]:
    """Leave out rows that fit no decision, whichever it is; those are refused."""
    bad = set(misfits([row.reward.decision_id or "-" for row in rows]))
    bad |= set(misfits([row.event.event_id for row in rows]))
    faults = dict.fromkeys(bad, f"ids of decisions and events must be {ID_TOLD}")
    for place, row in enumerate(rows):
        if not isfinite(row.reward.value):
            faults.setdefault(place, "the value must be a finite number")
    outcome.refused += [_refused_row(fault, rows[place]) for place, fault in sorted(faults.items())]
    return [row for place, row in enumerate(rows) if place not in faults]


def _row(actor: Actor, event: SignalEvent, decision_id: str, metric: str) -> _Row:
    """Return an event of a decision, and the reward that it is recorded as."""
    event_id = connection_event_id(actor, event.event_id)
    tracking = _tracking(event) if event.name in _TRACKED else None
    reward = Reward(
        decision_id, event_id, metric, event.value, event.occurred_at, tracking=tracking
    )
    return _Row(event, reward)


def _row_of_subject(actor: Actor, event: SignalEvent, subject_id: str, metric: str) -> _Row:
    """Return an event of a subject, and the reward that it is recorded as."""
    row, original = _row(actor, event, "", metric), event.original_event_id
    original_id = None if original is None else connection_event_id(actor, original)
    reward = replace(row.reward, subject_id=subject_id, original_event_id=original_id)
    return _Row(event, reward)


def _tracking(event: SignalEvent) -> Tracking:
    """Return the request behind an open or a click, as far as its sender reports it."""
    return Tracking(
        "click" if event.name == "click" else "open",
        event.network_address,
        event.agent,
        event.link,
        event.recipient,
        machine=event.machine or event.name == "machine_open",
        head=event.head,
        honeypot=event.honeypot,
    )


def _lead_seconds(reward: Reward, started_at: float) -> float:
    """Return how long before its decision's clock ran an event happened; 0 without a time."""
    return 0.0 if reward.occurred_at is None else started_at - reward.occurred_at.timestamp()


def _alone(row: _Row) -> RefusedSignal:
    """Return the event of a row, of its decision alone if any, so that it can be replayed."""
    ids = (row.reward.decision_id,) if row.reward.decision_id else ()
    return RefusedSignal(replace(row.event, decision_ids=ids, position=0))


def _refused_row(reason: str, row: _Row) -> NewRefusal:
    return _refusal(reason, _alone(row))


def _unmatched(
    row: _Row, trace: EventTrace | None, now: float, message_id: str | None = None
) -> NewUnmatchedEvent:
    reward = row.reward
    return NewUnmatchedEvent(
        reward.decision_id,
        reward.event_id,
        reward.metric,
        reward.value,
        now if reward.occurred_at is None else reward.occurred_at.timestamp(),
        row.event.subject_id or row.event.recipient or "",
        msgspec.json.encode(_alone(row)),
        message_id,
        trace,
    )


def _refusal(reason: str, signal: RefusedSignal) -> NewRefusal:
    return NewRefusal(reason, msgspec.json.encode(signal), signal.text)
