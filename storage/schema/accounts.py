"""Tables of accounts: secrets, users, sessions, API keys, idempotency keys, the audit log."""

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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from storage.schema.metadata import SUBJECT_DATA, Identifier, Serial, SubjectData, metadata
from storage.stored_format import FormattedBlob, FormattedJson

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("email", Identifier, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("must_change_password", SmallInteger, nullable=False, server_default="0"),
    Column("totp_secret", Text),  # of a second factor, where there is one,
    Column("totp_step", BigInteger),  # and the period of the last code that was taken
    CheckConstraint("role IN ('viewer', 'manager', 'admin')", name="role"),
)

identities = Table(  # at a provider, by which people sign in
    "identities",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("issuer", Identifier, nullable=False),
    Column("subject", Identifier, nullable=False),
    Column("user_id", Serial, ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("issuer", "subject"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("user_id", Serial, ForeignKey("users.id"), nullable=False, index=True),
    Column("agent", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

one_time_links = Table(
    "one_time_links",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("email", Identifier),  # whose account it is about; null for the first account
    Column("role", Text),  # that an invitation gives
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    CheckConstraint("purpose IN ('set-up', 'invitation', 'reset')", name="purpose"),
    CheckConstraint("role IN ('viewer', 'manager', 'admin')", name="role"),
    UniqueConstraint("purpose", "email"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False),
    Column("selector", Identifier, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False),
    Column("previous_selector", Identifier),  # of the token before the last rotation,
    Column("previous_digest", LargeBinary),
    Column("previous_until", Double),  # which works until then
    Column("scopes", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("owner", Text),  # the person it ends with
    Column("rows_per_minute", Integer),  # that it may send to a web worker; null for the default
    Column("dry_run", Boolean, nullable=False, server_default=false()),  # nothing is recorded
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Index("ix_api_keys_previous_selector", "previous_selector"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("api_key_id", Serial, primary_key=True, autoincrement=False),
    Column("key", Identifier, primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # of the request
    Column("created_at", Double, nullable=False, index=True),
    Column("repeatable", Boolean, nullable=False),  # so that its answer may be dropped
    Column("answer", FormattedBlob("idempotency_keys.answer", 1)),
    info={
        SUBJECT_DATA: SubjectData(
            export="by the decision that an answer repeats",
            erasure="`drop_answers`, all that may speak of subjects",
            retention="`IdempotencyKeyStore.claim`, after a day",
        )
    },
)

# Answers that are kept for the requests of one API key; in queries the very same words.
ANSWERED = text("answer IS NOT NULL")
Index(
    "ix_idempotency_keys_answered",
    idempotency_keys.c.api_key_id,
    idempotency_keys.c.created_at,
    sqlite_where=ANSWERED,
    postgresql_where=ANSWERED,
)

answer_sizes = Table(  # of the answers that are kept, by API key, so that none has too many
    "answer_sizes",
    metadata,
    Column("api_key_id", Serial, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),  # bytes
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Identifier, nullable=False),  # experiment:spring, user:a@b.example, key:3
    Column("before", FormattedJson("audit_log.before", 1)),
    Column("after", FormattedJson("audit_log.after", 1)),
    Index("ix_audit_log_subject_id", "subject", "id"),
)
