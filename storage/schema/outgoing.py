"""Tables of the workspace: its name, its mail server, alerts that are chosen, the outbox."""

from sqlalchemy import (
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
)

from storage.schema.metadata import Identifier, Serial, metadata
from storage.stored_format import FormattedJson

OUTBOX_FORMAT = 1

workspace = Table(  # one row at most
    "workspace",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),  # that pages and mails show
)

mail_settings = Table(  # one row at most
    "mail_settings",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("security", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("password", LargeBinary, nullable=False),  # as `storage.connections.encryption` seals
    Column("sender", Text, nullable=False),
    CheckConstraint("security IN ('starttls', 'tls', 'none')", name="security"),
)

alert_choices = Table(  # of what people want to be told by mail
    "alert_choices",
    metadata,
    Column("user_id", Serial, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("alert", Identifier, primary_key=True),
    Column("chosen_at", Double, nullable=False),
)

alert_targets = Table(  # webhooks and chats that are told
    "alert_targets",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("url", LargeBinary, nullable=False),  # sealed: a chat's address is its secret
    Column("secret", LargeBinary, nullable=False),  # sealed; that signs, empty for a chat
    Column("alerts", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("kind IN ('webhook', 'chat')", name="kind"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("event", Identifier, nullable=False),
    Column("target", Identifier, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", FormattedJson("outbox.content", OUTBOX_FORMAT), nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),  # of the next attempt; or until when one may last
    Column("attempts", Integer, nullable=False),
    Column("sent_at", Double),
    Column("error", Text, nullable=False),
    CheckConstraint("state IN ('waiting', 'sending', 'sent', 'failed')", name="state"),
    UniqueConstraint("event", "target"),
    Index("ix_outbox_state_due_at", "state", "due_at"),
)
