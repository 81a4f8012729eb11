"""Signal events: what a delivery reports, one by one, and the ones that could not be read."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause

MAX_EVENTS = 10_000  # of one delivery
BounceClass = Literal["address", "content"]


class SignalEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event, in our words.

    Attributes:
        name: a listed event (``open``, ``click``, …), or a metric that a shop names.
        event_id: an `Id` that begins with the kind; it is the same however often the sender
            reports this event, and whichever way its deliveries are cut into batches.
        occurred_at: when it happened, aware; None where the sender does not say.
        decision_ids: ours, as they were passed through: ``bandits_decision``, or ``bandits_1`` ….
        message_id: the sender's id of the email, without <>.
        recipient: the address that the event is of; None where the sender names several.
        subject_id: the sender's id of the customer or contact.
        value: of an order or refund; 1 for what happens or not.
        link: the address that was clicked.
        agent: the user agent that opened or clicked.
        network_address: the address it came from.
        machine: true where the sender itself says that no person did this.
        head: the request was for the head of a page alone.
        honeypot: the link cannot be seen in the email.
        original_event_id: the `event_id` of the event that this one corrects, such as the order
            of a refund.
        bounce: ``address`` where the address is the reason, ``content`` where the email is; None
            if it is no bounce, or the sender does not tell.
        as_of: when the value became the current one, where the sender tells it.
        position: of the event in its delivery, from 0.
    """

    name: str
    event_id: str
    position: int = 0
    occurred_at: datetime | None = None
    decision_ids: tuple[str, ...] = ()
    message_id: str | None = None
    recipient: str | None = None
    subject_id: str | None = None
    value: float = 1.0
    link: str | None = None
    agent: str | None = None
    network_address: str | None = None
    machine: bool = False
    head: bool = False
    honeypot: bool = False
    bounce: BounceClass | None = None
    original_event_id: str | None = None
    as_of: datetime | None = None


class UnreadableEvent(Struct, frozen=True):
    """One event that could not be read; the others of its delivery were.

    Attributes:
        position: in the delivery, from 0.
        reason: what was expected and what came.
        delivery: holds this event alone, to be read again by the same kind's `parse`.
    """

    position: int
    reason: str
    delivery: Delivery


class SignalBatch(Struct, frozen=True):
    """Everything that one delivery says.

    Attributes:
        events: in the order of the delivery.
        unreadable: each with its reason.
        ignored: number of events by the sender's name that mean nothing to us: sent, deferred.
        confirmation: an address that has to be fetched once before the sender delivers events.
    """

    events: tuple[SignalEvent, ...] = ()
    unreadable: tuple[UnreadableEvent, ...] = ()
    ignored: dict[str, int] = {}
    confirmation: str | None = None


class EventUnreadable(Exception):
    """One event does not fit; its message is the reason."""


class EventIgnored(Exception):
    """One event means nothing to us; its message is the sender's name for it."""


def read_batch(
    items: Sequence[Any],
    read: Callable[[Any], Iterable[SignalEvent]],
    alone: Callable[[Any], Delivery],
) -> SignalBatch:
    """Read each item of a delivery by itself, so that one never takes others with it.

    Args:
        items: as decoded.
        read: the events of an item; raises `EventUnreadable` or `EventIgnored`.
        alone: the delivery that holds this item and no other.

    Raises:
        DeliveryRefused: there are more items than one delivery may have.
    """
    if len(items) > MAX_EVENTS:
        raise DeliveryRefused(
            RefusalCause.TOO_LARGE,
            f"{len(items):,} events in one delivery; {MAX_EVENTS:,} are taken",
        )
    events: list[SignalEvent] = []
    unreadable: list[UnreadableEvent] = []
    ignored: Counter[str] = Counter()
    for position, item in enumerate(items):
        try:
            events += [replace(event, position=position) for event in read(item)]
        except EventUnreadable as error:
            unreadable.append(UnreadableEvent(position, str(error), alone(item)))
        except EventIgnored as error:
            ignored[str(error)] += 1
    return SignalBatch(tuple(events), tuple(unreadable), dict(ignored))
