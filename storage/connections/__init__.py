"""Connections: mailers and shops that report events, and their events that are not counted."""

from storage.connections.connections import (
    Connection,
    ConnectionCounts,
    ConnectionSecrets,
    ConnectionStore,
    DeliveryOutcome,
    OutcomeWriter,
)
from storage.connections.encryption import Cipher, NoEncryptionKey, parse_keys
from storage.connections.refusals import NewRefusal, Refusal
from storage.connections.sent_messages import SentMessageTable
from storage.connections.unmatched_events import NewUnmatchedEvent, UnmatchedEvent

__all__ = [
    "Cipher",
    "Connection",
    "ConnectionCounts",
    "ConnectionSecrets",
    "ConnectionStore",
    "DeliveryOutcome",
    "NewRefusal",
    "NewUnmatchedEvent",
    "NoEncryptionKey",
    "OutcomeWriter",
    "Refusal",
    "SentMessageTable",
    "UnmatchedEvent",
    "parse_keys",
]
