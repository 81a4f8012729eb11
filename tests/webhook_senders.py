"""Senders of webhooks on the wire: what `tests.senders` plays, as bodies and headers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from tests.senders import CURRENT, SENDERS, iso, standard_delivery
from webapp.signals.delivery import Delivery

Request = tuple[bytes, dict[str, str]]  # body and headers


class Mailer:
    """An account at a mailer, with a key of a number."""

    def __init__(self, kind: str = "sendgrid", number: int = CURRENT) -> None:
        self.kind = kind
        self._sender = SENDERS[kind]
        self._key = self._sender.key(number)

    @property
    def values(self) -> Mapping[str, str]:
        """The fields of a connection to it."""
        return self._key.fields

    def request(self, items: Sequence[Any], *, at: float) -> Request:
        """Sign a delivery of items."""
        return request_of(self._sender.deliver(items, self._key, moment(at), 1))


class Shop:
    """A shop that signs its orders as Standard Webhooks asks for, with a key of a number."""

    kind = "standard_webhooks"

    def __init__(self, number: int = CURRENT) -> None:
        self._key = SENDERS[self.kind].key(number)

    @property
    def values(self) -> Mapping[str, str]:
        """The fields of a connection to it."""
        return self._key.fields

    def request(
        self, own_id: str, decision_id: str, value: float, *, at: float, signed_at: float
    ) -> Request:
        """Sign a delivery of one order that was placed at a time."""
        data = {"bandits_decision": decision_id, "value": value}
        item = {"type": "order", "timestamp": iso(moment(at)), "data": data}
        return request_of(standard_delivery(item, self._key, moment(signed_at), own_id))

    def event(
        self,
        own_id: str,
        name: str,
        data: Mapping[str, Any],
        *,
        at: float,
        signed_at: float,
    ) -> Request:
        """Sign a delivery of one event that happened at a time."""
        item = {"type": name, "timestamp": iso(moment(at)), "data": data}
        return request_of(standard_delivery(item, self._key, moment(signed_at), own_id))


def sendgrid_event(decision_id: str | None, event: str, at: float, **more: Any) -> dict[str, Any]:
    """Make an event as SendGrid words it; without a decision it is of another email."""
    passed = {} if decision_id is None else {"bandits_decision": decision_id}
    number = sha256(repr((decision_id, event, at)).encode()).hexdigest()[:22]
    return {
        "email": "ann@shop.example",
        "timestamp": int(at),
        "event": event,
        "sg_event_id": number,
        "sg_message_id": f"{number}.filter0",
        **passed,
        **more,
    }


def moment(seconds: float) -> datetime:
    """Return a time, given in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def request_of(delivery: Delivery) -> Request:
    """Return body and headers of a delivery."""
    return delivery.body, dict(delivery.headers)
