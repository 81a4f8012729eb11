"""Tables of snapshots, and of sums that are kept beside them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    text,
)

from storage.schema.metadata import SUBJECT_DATA, Serial, SubjectData, metadata
from storage.stored_format import FormattedBlob

# As `bandits.store.values.DataQualityCounts` has them, in its order.
QUALITY_COUNTS = (
    "clipped",
    "unknown",
    "missing",
    "repeated",
    "late",
    "skewed",
    "early",
    "cancelled",
)

ALLOCATION_FORMAT = 1  # doubles, least byte first
INFERENCE_FORMAT = 4  # as `bandits.inference.state` numbers it
SENDERS_FORMAT = 2  # as `bandits.inference.sender_sums` numbers it

snapshots = Table(
    "snapshots",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("configuration_version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("upcoming", BigInteger, nullable=False),
    # Empty where it is no longer kept.
    Column("statistic", FormattedBlob("snapshots.statistic", 1), nullable=False),
    Column("arm_counts", FormattedBlob("snapshots.arm_counts", 1), nullable=False),
    # `bandits.allocation.AllocationRule`; snapshots from before there were two have the first.
    Column("allocation_rule", Integer, nullable=False, server_default="1"),
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

# From which version to which snapshots knew of rows that are gone since: of decisions that were
# erased, or void ones that gave way to others. Their arrays are gone, at once or once snapshots are
# thinned, and must not be made again from a log that lacks those rows.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False, index=True),
    Column("first_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),
)

# Of each experiment's newest snapshot alone: results are read of no other.
inference_states = Table(
    "inference_states",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("content", FormattedBlob("inference_states.content", INFERENCE_FORMAT), nullable=False),
    Column("senders", FormattedBlob("inference_states.senders", SENDERS_FORMAT)),
    Column("verdicts", FormattedBlob("inference_states.verdicts", 1)),
    Column("guardrails", FormattedBlob("inference_states.guardrails", 1)),
)

# Claims that held when they were made, for pages alone: no sum, so no audit compares them.
statements = Table(
    "statements",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("content", FormattedBlob("statements.content", 1), nullable=False),
)

# Sums over decisions that were learned from and whose rows were removed because they are old: see
# `storage.deletion.retention`.
retained_sums = Table(
    "retained_sums",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("statistic", FormattedBlob("retained_sums.statistic", 1), nullable=False),
    Column("arm_counts", FormattedBlob("retained_sums.arm_counts", 1), nullable=False),
    Column(
        "inference_state",
        FormattedBlob("retained_sums.inference_state", INFERENCE_FORMAT),
        nullable=False,
    ),
    Column("senders", FormattedBlob("retained_sums.senders", SENDERS_FORMAT)),
    Column("removed_before", Double),  # null where none was noted yet
    Column("verdicts", FormattedBlob("retained_sums.verdicts", 1)),
    Column("guardrails", FormattedBlob("retained_sums.guardrails", 1)),
)

# Probabilities of every arm that decisions of one snapshot and eligible set were drawn from, where
# the policy uses no context. They outlive the snapshot's arrays: `storage.snapshots.allocations`.
allocations = Table(
    "allocations",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("policy_version", Integer, primary_key=True, autoincrement=False),
    Column("configuration_version", Integer, primary_key=True, autoincrement=False),
    Column("eligible_set", LargeBinary, primary_key=True),  # empty where there was none
    Column(
        "probabilities",
        FormattedBlob("allocations.probabilities", ALLOCATION_FORMAT),
        nullable=False,
    ),
    sqlite_with_rowid=False,
)

# Probabilities of every arm that single decisions were drawn from, where they were other ones for
# each recipient: of a sample, and of those whose receipt was asked for. See
# `storage.snapshots.receipt_allocations`.
receipt_allocations = Table(
    "receipt_allocations",
    metadata,
    Column("decision", Serial, primary_key=True, autoincrement=False),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False),
    Column("asked_at", Double),  # null in the sample
    Column(
        "probabilities",
        FormattedBlob("receipt_allocations.probabilities", ALLOCATION_FORMAT),
        nullable=False,
    ),
    Index("ix_receipt_allocations_asked", "experiment_id", "asked_at", "decision"),
    info={
        SUBJECT_DATA: SubjectData(
            export="`Engine.receipt`, by the decisions that `SubjectStore.subject` reads",
            erasure="`SubjectStore.erase`, with the decisions",
            retention="`storage.deletion.retention`, with the decisions",
        )
    },
)

# Sums of inference that are being made anew, over decisions whose start is not after a batch: see
# `storage.snapshots.resummations`.
resummations = Table(
    "resummations",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("from_format", Integer, nullable=False),
    Column("batch_created_at", Double),  # null before the first portion
    Column("batch_id", Serial),
    Column("content", FormattedBlob("resummations.content", INFERENCE_FORMAT), nullable=False),
)

# Rules against machines that decisions are judged by, from a version of the snapshot on; the last
# row is in force. Up to a batch `rules` hold, behind it `earlier_rules`; for all where it is null:
# see `storage.snapshots.rules_in_force`.
rule_changes = Table(
    "rule_changes",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("rules", SmallInteger),
    Column("earlier_rules", SmallInteger),
    Column("batch_created_at", Double),
    Column("batch_id", Serial),
    Column("left_over", BigInteger, nullable=False),
)

# Data-quality counts of batches that are no longer in the log: `storage.snapshots.data_quality`.
retained_counts = Table(
    "retained_counts",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id"), primary_key=True),
    Column("clipped", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("repeated", Integer, nullable=False),
    Column("late", Integer, nullable=False),
    Column("skewed", Integer, nullable=False),
    Column("early", Integer, nullable=False, server_default="0"),
    Column("cancelled", Integer, nullable=False, server_default="0"),
)
