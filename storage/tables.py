"""The tables, as they are after every migration.

``decisions``, ``events``, ``activations`` and ``cancellations`` are the log: rows are inserted and
never changed, and removed only where a subject is erased or retention lets go of them. Each
transaction that writes some of them first writes a row of ``batches`` for each experiment, and the
log's rows point to it. What is the same for all rows of a batch (experiment, time, versions) is in
the batch alone. A fold marks batches: see `storage.learning.folds`.

Times are seconds since 1970-01-01 UTC. A decision's `id` is the sender's; inside, its `serial`
stands for it, since integers that grow are what an index takes fastest. A serial is the number of
the decision's batch times `PLACES`, plus its place there: so neither a column nor an index has to
say which batch a decision is of (`batch_of`) or which decisions a batch has (`of_batch`).

The log's rows have no foreign keys: PostgreSQL would look each of them up, and lock it, which costs
more than to write the row. A row is only ever written in the transaction that wrote its batch or
found its decision.
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
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql

# SQLite numbers rows by itself only where the type is called INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")
# Bytes compare alike in Python and in the database, so rows can be sorted in either.
Identifier = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Identifier, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("configuration_version", Integer, nullable=False),
    Column("learned_version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("stopped_at", Double),
    Column("shipped", SmallInteger),  # the arm that a stopped one goes on sending
    Column("clipped", Integer, nullable=False, server_default="0"),
    Column("unknown", Integer, nullable=False, server_default="0"),
    Column("missing", Integer, nullable=False, server_default="0"),
    Column("repeated", Integer, nullable=False, server_default="0"),
    Column("late", Integer, nullable=False, server_default="0"),
    Column("skewed", Integer, nullable=False, server_default="0"),
    Column("early", Integer, nullable=False, server_default="0"),
    CheckConstraint("state IN ('draft', 'running', 'paused', 'stopped', 'archived')", name="state"),
)

configurations = Table(
    "configurations",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_at", Double, nullable=False),
    Column("body", Text, nullable=False),  # not JSONB, which forgets the order of metrics
)

drafts = Table(
    "drafts",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False),
    Column("kind", Text, nullable=False),
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
    CheckConstraint("kind IN ('choose', 'activate', 'reward', 'cancel')", name="kind"),
    sqlite_autoincrement=True,  # a number is never given again, nor are the serials made from it
)
# In queries the very same words, or SQLite does not use the index.
NEW = text("counted_version IS NULL AND (due_at IS NOT NULL OR kind = 'choose')")
CHOSEN = text("kind = 'choose'")
PENDING = text("counted_version IS NOT NULL AND folded_version IS NULL")
_OPEN = text("folded_version IS NOT NULL AND closed_version IS NULL")
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
Index("ix_batches_by_time", batches.c.experiment_id, batches.c.created_at, batches.c.id)
Index(
    "ix_batches_chosen",
    batches.c.experiment_id,
    batches.c.created_at,
    batches.c.id,
    sqlite_where=CHOSEN,
    postgresql_where=CHOSEN,
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
    Column("restriction", LargeBinary),
    Column("digest", LargeBinary),
    Column("subject", LargeBinary, nullable=False),
    Column("shipped", Boolean, nullable=False, server_default=false()),
)

PLACES = 1 << 20  # that a batch has for decisions
_PLACES = literal_column(str(PLACES), Integer)
batch_of = decisions.c.serial // _PLACES


def of_batch(batch_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Tell whether a decision is of a batch, as a range of serials, which an index finds."""
    first = batch_id * _PLACES
    return decisions.c.serial.between(first, first + (_PLACES - literal_column("1", Integer)))


subjects = Table(
    "subjects",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("subject", LargeBinary, primary_key=True),
    Column("decision_id", Identifier, nullable=False),
    sqlite_with_rowid=False,
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
    sqlite_with_rowid=False,
)

activations = Table(
    "activations",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("batch_id", Serial, nullable=False, index=True),
)

cancellations = Table(
    "cancellations",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("batch_id", Serial, nullable=False, index=True),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("configuration_version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("upcoming", BigInteger, nullable=False),
    Column("statistic", LargeBinary, nullable=False),  # empty where it is no longer kept
    Column("tally", LargeBinary, nullable=False),
    Index("ix_snapshots_experiment_id_at", "experiment_id", "at", "version"),
)
KEPT = text("length(statistic) > 0")
Index(
    "ix_snapshots_kept",
    snapshots.c.experiment_id,
    snapshots.c.at,
    sqlite_where=KEPT,
    postgresql_where=KEPT,
)

# From which version to which snapshots knew of decisions that were erased since: their arrays are
# gone, and must not be made again from a log that lacks those rows.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False, index=True),
    Column("first_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),
)

# Of each experiment's newest snapshot alone: nobody asks for those of earlier ones.
grounds = Table(
    "grounds",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# What was learned from decisions whose rows were removed because they are old: see
# `storage.removal.removing`.
bases = Table(
    "bases",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("statistic", LargeBinary, nullable=False),
    Column("tally", LargeBinary, nullable=False),
    Column("grounds", LargeBinary, nullable=False),
)

# What batches told that did not fit, and that are no longer in the log: `storage.learning.mishaps`.
departed = Table(
    "departed",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("clipped", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("repeated", Integer, nullable=False),
    Column("late", Integer, nullable=False),
    Column("skewed", Integer, nullable=False),
    Column("early", Integer, nullable=False, server_default="0"),
)

# The different restrictions that requests had, of which an experiment takes only so many.
restrictions = Table(
    "restrictions",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)

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
    CheckConstraint("role IN ('viewer', 'manager', 'admin')", name="role"),
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
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Index("ix_api_keys_previous_selector", "previous_selector"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Identifier, nullable=False),  # experiment:spring, user:a@b.example, key:3
    Column("before", Text),
    Column("after", Text),
    Index("ix_audit_log_subject_id", "subject", "id"),
)
