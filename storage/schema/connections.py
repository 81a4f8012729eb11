"""Tables of connections: their secrets and counts, and events of theirs that are not counted."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from storage.schema.metadata import SUBJECT_DATA, Identifier, Serial, SubjectData, metadata
from storage.stored_format import FormattedBlob, FormattedJson

_UNMATCHED = SubjectData(
    export="`SubjectStore.signals`, by the ids of the subject's decisions and its mark",
    erasure="`SubjectStore.erase_signals`, by the same",
    retention="`ConnectionStore.remove_expired`, after a day",
)
_WAITING = SubjectData(
    export="`SubjectStore.signals`, by the ids of the subject's decisions",
    erasure="`SubjectStore.erase_signals`, by the same",
    retention="`DecisionLog.remove_expired`, after a day",
)
_REFUSED = SubjectData(
    export="`SubjectStore.signals`, by the marks of the subject and of its decisions' ids",
    erasure="`SubjectStore.erase_signals`, by the same",
    retention="`ConnectionStore.remove_expired`, after 30 days or 100 MB",
)

_SENT = SubjectData(
    export="`SubjectStore.signals`, by the marks of the subject and of its decisions' ids",
    erasure="`SubjectStore.erase_signals`, by the same",
    retention="`ConnectionStore.remove_expired`, after 30 days",
)
TRACE_FORMAT = 1

CONNECTION_COUNTS = (
    "deliveries",
    "recorded",
    "repeated",
    "late",
    "without_decision",
    "expired",
    "refused",
    "rejected",
)

connections = Table(
    "connections",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Identifier, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("secrets", LargeBinary, nullable=False),  # as `storage.connections.encryption` seals
    Column("previous_secrets", LargeBinary),  # before the last rotation,
    Column("previous_until", Double),  # which work until then
    Column("fields", FormattedJson("connections.fields", 1), nullable=False),
    Column("metrics", FormattedJson("connections.metrics", 1), nullable=False),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("excludes_bounces", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("delivered_at", Double),  # the last delivery that was verified,
    Column("event_at", Double),  # the last one with an event of ours,
    Column("rejected_at", Double),  # and the last one that was not verified,
    Column("rejection", Text),  # for this reason
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in CONNECTION_COUNTS),
    Column("refusal_bytes", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,  # the number of a deleted one is never given again
)

unmatched_events = Table(  # whose decision does not exist yet, or waits for its activation
    "unmatched_events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("connection_id", Serial, ForeignKey("connections.id"), nullable=False, index=True),
    Column("decision_id", Identifier, nullable=False),  # empty where it waits for a message id
    Column("event_id", Identifier, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("occurred_at", Double, nullable=False),
    Column("received_at", Double, nullable=False, index=True),
    Column("mark", LargeBinary, index=True),  # of the recipient: see `storage.connections.marks`
    Column("message_id", Identifier),
    # `bandits.machines.EventTrace`; null where the request behind it is not known.
    Column("trace", FormattedBlob("unmatched_events.trace", TRACE_FORMAT)),
    Column("as_of", Double),
    Column("address_bounce", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("decision_id", "event_id"),
    sqlite_autoincrement=True,
    info={SUBJECT_DATA: _UNMATCHED},
)

# Reported by anybody else than a connection, likewise: `storage.log.waiting_events`.
waiting_events = Table(
    "waiting_events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("actor", Identifier, nullable=False, index=True),
    Column("decision_id", Identifier, nullable=False),
    Column("event_id", Identifier, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("occurred_at", Double, nullable=False),
    Column("received_at", Double, nullable=False, index=True),
    # `bandits.machines.EventTrace`; null where the request behind it is not known.
    Column("trace", FormattedBlob("waiting_events.trace", TRACE_FORMAT)),
    Column("as_of", Double),
    UniqueConstraint("decision_id", "event_id"),
    sqlite_autoincrement=True,
    info={SUBJECT_DATA: _WAITING},
)

refusals = Table(  # events that did not fit, kept for people to look at and to replay
    "refusals",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("connection_id", Serial, ForeignKey("connections.id"), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # the same event again is kept once
    Column("received_at", Double, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # sealed as secrets are
    Column("size", Integer, nullable=False),
    UniqueConstraint("connection_id", "digest"),
    sqlite_autoincrement=True,
    info={SUBJECT_DATA: _REFUSED},
)

refusal_marks = Table(  # of all names and ids in a refusal's body
    "refusal_marks",
    metadata,
    Column("mark", LargeBinary, primary_key=True),
    Column("refusal_id", Serial, primary_key=True, autoincrement=False),
    Index("ix_refusal_marks_refusal_id", "refusal_id"),
    sqlite_with_rowid=False,
    info={SUBJECT_DATA: _REFUSED},
)

sent_messages = Table(  # that a messenger handed to the mail server: see the module of this name
    "sent_messages",
    metadata,
    Column("message", LargeBinary, primary_key=True),  # mark of its id
    Column("subject", LargeBinary, nullable=False, index=True),  # mark of the recipient
    Column("connection_id", Serial, ForeignKey("connections.id"), nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("changed_at", Double, nullable=False, index=True),
    CheckConstraint("state IN ('sending', 'sent')", name="state"),
    sqlite_with_rowid=False,
    info={SUBJECT_DATA: _SENT},
)
