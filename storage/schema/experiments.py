"""Tables of experiments: their configurations, their eligible sets, and drafts."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    false,
)

from storage.schema.metadata import Identifier, Serial, metadata
from storage.stored_format import FormattedJson

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
    Column("shipped", SmallInteger),  # the arm that a stopped one goes on sending,
    # and whether its control group goes on getting the control.
    Column("keeps_control", Boolean, nullable=False, server_default=false()),
    Column("clipped", Integer, nullable=False, server_default="0"),
    Column("unknown", Integer, nullable=False, server_default="0"),
    Column("missing", Integer, nullable=False, server_default="0"),
    Column("repeated", Integer, nullable=False, server_default="0"),
    Column("late", Integer, nullable=False, server_default="0"),
    Column("skewed", Integer, nullable=False, server_default="0"),
    Column("early", Integer, nullable=False, server_default="0"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
    Column("voided", Integer),  # decisions that are void; null where nothing ever was
    Column("attribution", Text),  # as the newest configuration declares it
    Column("machine_rules", SmallInteger),  # as the configuration names them
    CheckConstraint("state IN ('draft', 'running', 'paused', 'stopped', 'archived')", name="state"),
)

configurations = Table(
    "configurations",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_at", Double, nullable=False),
    # Not JSONB, which forgets the order of metrics.
    Column("body", FormattedJson("configurations.body", 1), nullable=False),
)

drafts = Table(
    "drafts",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", FormattedJson("drafts.body", 1), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
)

# The different eligible sets that requests had, of which an experiment takes only so many.
eligible_sets = Table(
    "eligible_sets",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("actor", Text),  # who asked for it first; null where that was not noted yet
    sqlite_with_rowid=False,
)

# Who asked for each of them, and since when it counts as asked for. Sets from before this was noted
# have no such row of their first actor.
eligible_set_uses = Table(
    "eligible_set_uses",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("actor", Identifier, primary_key=True),
    Column("used_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
