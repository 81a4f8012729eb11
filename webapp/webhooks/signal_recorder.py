"""Signal recorder: events of a delivery become rewards of decisions, each for itself.

An event is matched by the decision ids that the sender passed through, else by the mailer's id of
the email where those are told, else by its subject and time where an experiment is found so. It is
recorded by the engine, which counts it once by decision and event id. One whose decision does not
exist yet, or waits for its activation, waits too; one that does not fit is refused alone, with the
reason. What becomes of a delivery is kept in the transaction of its events.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.actors import Actor, actor_of
from bandits.engine import Engine
from bandits.engine.record_signals import SignalOutcome
from bandits.event_ids import connection_event_id, sent_event_ids
from bandits.machines import EventTrace, event_trace
from bandits.schemas import ID_TOLD, Reward, Tracking, misfits
from storage.connections import (
    Connection,
    ConnectionStore,
    DeliveryOutcome,
    NewRefusal,
    NewUnmatchedEvent,
    OutcomeWriter,
    UnmatchedEvent,
)
from storage.databases import Transaction
from webapp.signals.delivery import Delivery, DeliveryRefused
from webapp.signals.signal_event import SignalBatch, SignalEvent

Parse = Callable[[Delivery], SignalBatch]

_NO_TIME = "an event that names its subject alone needs its time, which tells the email"
_TRACKED = frozenset({"open", "click", "machine_open"})


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


class _Unrecorded:
    """Events of one delivery, in the name of `actor`, that are not handed to the engine."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.without_decision = 0
        self.unmatched: list[NewUnmatchedEvent] = []
        self.refused: list[NewRefusal] = []


class SignalRecorder:
    """Recorder of signals in the log of an engine."""

    def __init__(self, engine: Engine) -> None:
        """Record by `engine`."""
        self._engine = engine

    def deliver(
        self, connections: ConnectionStore, connection: Connection, batch: SignalBatch, *, at: float
    ) -> DeliveryOutcome:
        """Record the events of a delivery that was proved, and count it, in one transaction.

        Again, it counts as a delivery once more, and its events change nothing.

        Raises:
            Unavailable: the store cannot record; nothing was stored.
            NotFound: the connection was deleted meanwhile.
        """
        keep = connections.delivery_writer(connection.id, at=at)
        return self.record(connection, batch, keep=keep)

    def record(
        self, connection: Connection, batch: SignalBatch, *, keep: OutcomeWriter | None = None
    ) -> DeliveryOutcome:
        """Record the events of a delivery that was proved; again, it changes nothing.

        Args:
            connection: that received it.
            batch: the events.
            keep: keeps what becomes of them, in their transaction.

        Raises:
            Unavailable: the store cannot record; nothing was stored.
        """
        actor = actor_of("connection", connection.key)
        rows, others = self._rows(actor, connection.metrics, batch)
        return self._record(rows, others, keep, excludes=connection.excludes_bounces)

    def record_as(
        self,
        actor: Actor,
        metrics: Mapping[str, str],
        batch: SignalBatch,
        *,
        keep: OutcomeWriter | None = None,
    ) -> DeliveryOutcome:
        """Record events in the name of an actor; again, it changes nothing.

        Args:
            actor: that the log names.
            metrics: the metric that events of a name feed, where it is not the name itself.
            batch: the events.
            keep: keeps what becomes of them, in their transaction.

        Raises:
            Unavailable: as `record`.
        """
        rows, others = self._rows(actor, metrics, batch)
        return self._record(rows, others, keep)

    def _rows(
        self, actor: Actor, metrics: Mapping[str, str], batch: SignalBatch
    ) -> tuple[list[_Row], _Unrecorded]:
        """Match events, and return rows of well-formed ids and what is not among them."""
        others = _Unrecorded(actor)
        for unread in batch.unreadable:
            others.refused.append(_refusal(unread.reason, RefusedSignal(delivery=unread.delivery)))
        rows: list[_Row] = []
        unnamed: list[tuple[SignalEvent, str]] = []
        for event in batch.events:
            metric = metrics.get(event.name, event.name)
            rows += [_row(actor, event, i, metric) for i in event.decision_ids]
            if not event.decision_ids:
                unnamed.append((event, metric))
        if unnamed:
            rows += self._match(unnamed, others)
        return _well_formed(rows, others), others

    def _match(
        self, events: Sequence[tuple[SignalEvent, str]], outcome: "_Unrecorded"
    ) -> list[_Row]:
        """Match events that name no decision; return rows of decisions, then rows of subjects.

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
        return of_messages + of_subjects

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

    def settle(
        self, connections: ConnectionStore, connection: Connection, events: Sequence[UnmatchedEvent]
    ) -> DeliveryOutcome:
        """Record events of a connection that waited, and whose decisions' clocks run by now.

        An event counts as of the start of that clock where it happened before. It waits no longer,
        in the transaction that records it.
        """
        others = _Unrecorded(actor_of("connection", connection.key))
        at = self._engine.clock()
        rows = []
        sent_ids = sent_event_ids(others.actor, [event.event_id for event in events])
        for event, sent_id in zip(events, sent_ids, strict=True):
            occurred_at = datetime.fromtimestamp(event.occurred_at, UTC)
            signal = SignalEvent(
                name=event.metric,
                event_id=sent_id,
                occurred_at=occurred_at,
                decision_ids=(event.decision_id,),
                value=event.value,
                as_of=None if event.as_of is None else datetime.fromtimestamp(event.as_of, UTC),
                bounce="address" if event.address_bounce else None,
            )
            row = _row(others.actor, signal, event.decision_id, event.metric)
            rows.append(_Row(signal, replace(row.reward, tracking=None), event.trace))
        if connection.excludes_bounces:  # first: once settled, nobody tells of them again
            self._exclude(others.actor, rows)
        keep = connections.settlement_writer(connection.id, events, at=at)
        return self._record(rows, others, keep, may_wait=False)

    def _record(
        self,
        rows: Sequence[_Row],
        others: "_Unrecorded",
        keep: OutcomeWriter | None,
        *,
        may_wait: bool = True,
        excludes: bool = False,
    ) -> DeliveryOutcome:
        """Record rows of well-formed ids; what waits no more is without a decision: it is erased.

        Args:
            rows: events of decisions or of subjects.
            others: the events of the delivery that are not among them.
            keep: keeps what becomes of all of them, in one transaction.
            may_wait: those whose decision does not exist, or waits for its activation, wait.
            excludes: take out the decisions of bounces for which the address is the reason. A
                delivery that breaks off before that comes again.
        """
        traces = [self._trace(row) for row in rows]
        outcomes: list[DeliveryOutcome] = []
        unrecorded: set[int] = set()

        def write(transaction: Transaction, signals: SignalOutcome) -> None:
            unrecorded.update(signals.waiting, signals.refused)
            waiting = [row for row in signals.waiting if may_wait and rows[row].reward.decision_id]
            now = self._engine.clock()
            outcome = DeliveryOutcome(
                signals.recorded,
                signals.repeated,
                signals.late,
                others.without_decision
                + signals.unattributed
                + signals.cancelled
                + len(signals.waiting)
                - len(waiting),
                [*others.unmatched, *(_unmatched(rows[i], traces[i], now) for i in waiting)],
                [
                    *others.refused,
                    *(_refused_row(why, rows[i]) for i, why in sorted(signals.refused.items())),
                ],
            )
            outcomes.append(outcome)
            if keep is not None:
                keep(transaction, outcome)

        rewards = [row.reward for row in rows]
        self._engine.record_signals(rewards, actor=others.actor, traces=traces, keep=write)
        if excludes:
            recorded = [row for place, row in enumerate(rows) if place not in unrecorded]
            self._exclude(others.actor, recorded)
        return outcomes[-1]

    def _exclude(self, actor: Actor, rows: Sequence[_Row]) -> None:
        """Cancel the decisions of those events that are bounces of an address.

        Those that were sent too long ago stay, as for any cancellation.
        """
        bounced = [row.reward for row in rows if row.event.bounce == "address"]
        by_subject = [reward.event_id for reward in bounced if not reward.decision_id]
        ids = [reward.decision_id for reward in bounced if reward.decision_id]
        if by_subject:
            went = self._engine.store.log.attributions(actor, by_subject)
            ids += [i for attribution in went.values() for _, i in attribution.credits]
        if ids:
            self._engine.cancel(ids, actor=actor)

    def _trace(self, row: _Row) -> EventTrace | None:
        """Return what is kept of the request behind an event."""
        tracking = row.reward.tracking
        if row.trace is not None or tracking is None:
            return row.trace
        return event_trace(tracking, row.reward.metric, self._engine.store.log.trace_key())


def _well_formed(rows: Sequence[_Row], outcome: _Unrecorded) -> list[_Row]:
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
        decision_id,
        event_id,
        metric,
        event.value,
        event.occurred_at,
        tracking=tracking,
        as_of=event.as_of,
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
        None if reward.as_of is None else reward.as_of.timestamp(),
        row.event.bounce == "address",
    )


def _refusal(reason: str, signal: RefusedSignal) -> NewRefusal:
    return NewRefusal(reason, msgspec.json.encode(signal), signal.text)
