"""Spooled deliveries: webhooks that were proved while the database was away."""

import msgspec
from msgspec import Struct

from bandits.errors import NotFound
from storage.connections import ConnectionStore
from storage.spool import SpoolRecord
from webapp.signals.delivery import Delivery
from webapp.signals.kind_registry import connection_kind
from webapp.webhooks.signal_recorder import SignalRecorder

TOPIC = "webhooks"


class DeliveryHead(Struct, frozen=True):
    """Head of a delivery: the connection that it was sent to, its method and headers."""

    kind: str
    connection: str
    method: str
    headers: dict[str, str]


def spool_record(kind: str, connection: str, delivery: Delivery, *, at: float) -> SpoolRecord:
    """Return a proved delivery as it stands in the spool."""
    head = DeliveryHead(kind, connection, delivery.method, dict(delivery.headers))
    return SpoolRecord(TOPIC, at, msgspec.json.encode(head), delivery.body)


def record_delivery(
    record: SpoolRecord, recorder: SignalRecorder, connections: ConnectionStore
) -> None:
    """Record the events of a spooled delivery; again, they count once.

    Raises:
        Unavailable: the store cannot record.
    """
    head = msgspec.json.decode(record.head, type=DeliveryHead)
    try:
        connection = connections.find(head.connection)
        batch = connection_kind(head.kind).parse(Delivery(head.method, head.headers, record.text))
        recorder.deliver(connections, connection, batch, at=record.received_at)
    except NotFound:  # the connection was deleted meanwhile, as its other events were
        return
