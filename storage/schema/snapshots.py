"""What is learned from the log: snapshots, and what is kept beside them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    text,
)

from storage.schema.metadata import Serial, metadata

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
# `storage.deletion.retention`.
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

# Data-quality counts of batches that are no longer in the log: `storage.snapshots.data_quality`.
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
