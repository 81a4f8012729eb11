"""Tables of the log: batches, and the rows of each. Rows are inserted, and not changed.

A void decision's id alone may go to a later decision: see `former_ids`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    false,
    literal_column,
    text,
)

from storage.schema.metadata import SUBJECT_DATA, Identifier, Serial, SubjectData, metadata

_OF_SUBJECTS = {
    SUBJECT_DATA: SubjectData(
        export="`SubjectStore.subject`, by the hash of the subject",
        erasure="`SubjectStore.erase`, with the decisions",
        retention="`storage.deletion.retention`, after the experiment's `retention_days`",
    )
}

batches = Table(
    "batches",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text),  # `bandits.actors.Actor`; null where it was not noted yet
    Column("size", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("due_at", Double),  # null for decisions that wait for their activation
    Column("counted_version", Integer),
    Column("folded_version", Integer),
    Column("configuration_version", Integer),
    Column("policy_version", Integer),
    Column("clipped", Integer, nullable=False, server_default="0"),
    Column("unknown", Integer, nullable=False, server_default="0"),
    Column("missing", Integer, nullable=False, server_default="0"),
    Column("closed_version", Integer),
    Column("repeated", Integer, nullable=False, server_default="0"),
    Column("late", Integer, nullable=False, server_default="0"),
    Column("skewed", Integer, nullable=False, server_default="0"),
    Column("early", Integer, nullable=False, server_default="0"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
    Column("index_pending", Boolean),  # its subjects are to be indexed: `storage.log.subject_index`
    # Of events with a trace, until their networks are counted: when these may be. Null otherwise.
    Column("freezes_at", Double),
    CheckConstraint("kind IN ('choose', 'activate', 'reward', 'cancel')", name="kind"),
    sqlite_autoincrement=True,  # a number is never given again, nor are the serials made from it
)
# In queries the very same words, or SQLite does not use the index.
NEW = text("counted_version IS NULL AND (due_at IS NOT NULL OR kind = 'choose')")
CHOSEN = text("kind = 'choose'")
PENDING = text("counted_version IS NOT NULL AND folded_version IS NULL")
_OPEN = text("folded_version IS NOT NULL AND closed_version IS NULL")
INDEX_PENDING = text("index_pending")
Index(
    "ix_batches_new",
    batches.c.experiment_id,
    batches.c.id,
    sqlite_where=NEW,
    postgresql_where=NEW,
)
Index(
    "ix_batches_pending",
    batches.c.experiment_id,
    batches.c.due_at,
    sqlite_where=PENDING,
    postgresql_where=PENDING,
)
Index(
    "ix_batches_open",
    batches.c.experiment_id,
    batches.c.created_at,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
UNFROZEN = text("freezes_at IS NOT NULL")
Index(
    "ix_batches_unfrozen",
    batches.c.freezes_at,
    batches.c.id,
    sqlite_where=UNFROZEN,
    postgresql_where=UNFROZEN,
)
Index("ix_batches_by_time", batches.c.experiment_id, batches.c.created_at, batches.c.id)
Index(
    "ix_batches_chosen",
    batches.c.experiment_id,
    batches.c.created_at,
    batches.c.id,
    sqlite_where=CHOSEN,
    postgresql_where=CHOSEN,
)
Index(
    "ix_batches_index_pending",
    batches.c.experiment_id,
    batches.c.id,
    sqlite_where=INDEX_PENDING,
    postgresql_where=INDEX_PENDING,
)

decisions = Table(
    "decisions",
    metadata,
    Column("serial", Serial, primary_key=True, autoincrement=False),
    Column("id", Identifier, nullable=False, unique=True),
    Column("arm", SmallInteger, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("context", LargeBinary),  # d little-endian doubles; null with d = 1, the constant
    Column("holdout", Boolean, nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("eligible_set", LargeBinary),
    Column("digest", LargeBinary),
    Column("subject", LargeBinary, nullable=False),
    Column("shipped", Boolean, nullable=False, server_default=false()),
    # Hash of the subject as events are matched, where that is not the subject to the byte and its
    # experiment is found by subject.
    Column("match_key", LargeBinary),
    info=_OF_SUBJECTS,
)

PLACES = 1 << 20  # that a batch has for decisions
_PLACES = literal_column(str(PLACES), Integer)
batch_of = decisions.c.serial // _PLACES


def of_batch(batch_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a decision is of a batch: a range of serials, for the index."""
    first = batch_id * _PLACES
    return decisions.c.serial.between(first, first + (_PLACES - literal_column("1", Integer)))


subjects = Table(
    "subjects",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("subject", LargeBinary, primary_key=True),
    Column("decision_id", Identifier, nullable=False),
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

events = Table(
    "events",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("event_id", Identifier, primary_key=True),
    Column("batch_id", Serial, nullable=False, index=True),
    Column("metric", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("occurred_at", Double, nullable=False),
    Column("late", Boolean, nullable=False),
    # `bandits.machines.EventTrace`; null where the request behind it is not known.
    Column("kind", SmallInteger),
    Column("link", BigInteger),
    Column("network", BigInteger),
    Column("agent", SmallInteger),
    Column("signs", SmallInteger),
    Column("mailbox", SmallInteger),
    Column("happened_at", Double),
    Column("as_of", Double),  # null where it was not told
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

# Emails whose links were followed from a network in a minute, of all experiments: of no subject.
# A row is written once: `storage.snapshots.network_counts`.
network_counts = Table(
    "network_counts",
    metadata,
    Column("network", BigInteger, primary_key=True, autoincrement=False),
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("emails", Integer, nullable=False),
    Column("swept", Integer, nullable=False),
    Column("week_emails", Integer, nullable=False),
    Column("week_swept", Integer, nullable=False),
    Column("frozen_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
CLICKED = text("emails > 0")
Index(
    "ix_network_counts_clicked",
    network_counts.c.network,
    network_counts.c.frozen_at,
    sqlite_where=CLICKED,
    postgresql_where=CLICKED,
)
Index("ix_network_counts_minute", network_counts.c.minute)

activations = Table(
    "activations",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("batch_id", Serial, nullable=False, index=True),
    info=_OF_SUBJECTS,
)

cancellations = Table(
    "cancellations",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("batch_id", Serial, nullable=False, index=True),
    info=_OF_SUBJECTS,
)

# Events that were taken back, which may be reported later: `storage.log.withdrawals`.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("event_id", Identifier, primary_key=True),
    Column("batch_id", Serial, primary_key=True, autoincrement=False, index=True),
    Column("own_only", Boolean, nullable=False),  # takes back only what its actor reported
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

# Who else was answered with a decision that waited: their email is this one, so they may report it
# as sent. The decision stays its own actor's in all else.
repeats = Table(
    "repeats",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("actor", Identifier, primary_key=True),
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

# Ids that void decisions had until a later request asked for them: that one's decision has the id
# now, and the void one an id of ours. Its draw was made from the former one.
former_ids = Table(
    "former_ids",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("id", Identifier, nullable=False),
    info=_OF_SUBJECTS,
)

# Sorted runs of an experiment's decisions by subject, each of 2 ** `bits` pages, which are numbered
# in `subject_pages`: see `storage.log.subject_index`.
subject_runs = Table(
    "subject_runs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False, index=True),
    Column("bits", SmallInteger, nullable=False),
    Column("size", Integer, nullable=False),
    sqlite_autoincrement=True,
)

subject_pages = Table(
    "subject_pages",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("entries", LargeBinary, nullable=False),  # sorted: 8 bytes of a hash, 8 of a serial
    info=_OF_SUBJECTS,
)

# Where events of a subject went: (source, event id) is credited once, to these decisions.
attributions = Table(
    "attributions",
    metadata,
    Column("source", Identifier, primary_key=True),  # an actor, or the files of an experiment
    Column("event_id", Identifier, primary_key=True),
    Column("decision", Serial, primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

# The mailer's ids of emails, as they were told. An email may be of several campaigns, and may be
# sent a second time under another id; so only the pair is unique.
message_ids = Table(
    "message_ids",
    metadata,
    Column("message_id", Identifier, primary_key=True),
    Column("decision", Serial, primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
    info=_OF_SUBJECTS,
)

# What an actor did between two times, the second excluded, taken out of learning and results; or,
# where `restores` names such a row, back in. A call that concerns many rows writes several, each of
# a part of the time; `call_id` is the first of them. See `storage.snapshots.voids`.
voids = Table(
    "voids",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("call_id", Serial),  # null for the first
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False, index=True),
    Column("restores", Serial),
    Column("actor", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("until", Double, nullable=False),
    Column("version", Integer, nullable=False),  # the first snapshot that obeys
    Column("decisions", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
)

# Rows that each actor wrote, as far as folds have seen them: `storage.snapshots.actor_counts`.
actor_counts = Table(
    "actor_counts",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("actor", Identifier, primary_key=True),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("chosen", BigInteger, nullable=False),
    Column("activated", BigInteger, nullable=False),
    Column("rewarded", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
)
