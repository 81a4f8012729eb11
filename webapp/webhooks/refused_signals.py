"""Refused signals: events of deliveries that did not fit, shown and replayed by people."""

import msgspec

from bandits.errors import NotFound
from storage.connections import DeliveryOutcome
from webapp.services import Services
from webapp.signals.kind_registry import connection_kind
from webapp.webhooks.signal_recorder import RefusedSignal, SignalRecorder


def signal_text(body: bytes) -> str:
    """Return what was sent as a refused event, as text for people."""
    return msgspec.json.decode(body, type=RefusedSignal).text.decode(errors="replace")


def replay_refusal(services: Services, key: str, refusal_id: int, *, by: str) -> DeliveryOutcome:
    """Record a refused event again; where it does not fit once more, it stays.

    Raises:
        NotFound: there is no such connection or event.
        NoEncryptionKey: it is encrypted under a key that is not here.
    """
    connections = services.connections
    connection = connections.find(key)
    body = connections.refusal_body(key, refusal_id)
    parse = connection_kind(connection.kind).parse
    outcome = SignalRecorder(services.engine).replay(connection, body, parse)
    at = services.engine.clock()
    if not connections.replace_refusal(key, refusal_id, outcome, at=at, by=by):
        raise NotFound("refused event", str(refusal_id))
    return outcome
