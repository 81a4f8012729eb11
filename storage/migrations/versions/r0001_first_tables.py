"""Create the tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")

TABLES = (
    "experiments",
    "configurations",
    "snapshots",
    "batches",
    "decisions",
    "subjects",
    "events",
    "activations",
    "cancellations",
    "secrets",
    "users",
    "api_keys",
    "audit_log",
)


def upgrade() -> None:
    _experiments()
    _batches()
    _decisions()
    _what_follows_a_decision()
    _accounts()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("key", IDENTIFIER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("configuration_version", sa.Integer(), nullable=False),
        sa.Column("learned_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("stopped_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state IN ('draft', 'running', 'paused', 'stopped', 'archived')",
            name=op.f("ck_experiments_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("key", name=op.f("uq_experiments_key")),
    )
    op.create_table(
        "configurations",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_configurations_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "version", name=op.f("pk_configurations")),
    )
    op.create_table(
        "snapshots",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("configuration_version", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("upcoming", sa.BigInteger(), nullable=False),
        sa.Column("statistic", sa.LargeBinary(), nullable=False),
        sa.Column("tally", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_snapshots_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "version", name=op.f("pk_snapshots")),
    )
    op.create_index(
        "ix_snapshots_experiment_id_at",
        "snapshots",
        ["experiment_id", "at", "version"],
    )


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("counted_version", sa.Integer(), nullable=True),
        sa.Column("folded_version", sa.Integer(), nullable=True),
        sa.Column("configuration_version", sa.Integer(), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=True),
        sa.Column("clipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unknown", sa.Integer(), server_default="0", nullable=False),
        sa.Column("missing", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "kind IN ('choose', 'activate', 'reward', 'cancel')", name=op.f("ck_batches_kind")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_batches_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_by_time", "batches", ["experiment_id", "created_at", "id"])
    op.create_index(
        "ix_batches_new",
        "batches",
        ["experiment_id", "id"],
        sqlite_where=sa.text("counted_version IS NULL AND due_at IS NOT NULL"),
        postgresql_where=sa.text("counted_version IS NULL AND due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_batches_pending",
        "batches",
        ["experiment_id", "due_at"],
        sqlite_where=sa.text("counted_version IS NOT NULL AND folded_version IS NULL"),
        postgresql_where=sa.text("counted_version IS NOT NULL AND folded_version IS NULL"),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("serial", SERIAL, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.Column("arm", sa.SmallInteger(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("context", sa.LargeBinary(), nullable=True),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("fallback", sa.Boolean(), nullable=False),
        sa.Column("restriction", sa.LargeBinary(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_decisions_batch_id")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_decisions")),
        sa.UniqueConstraint("id", name=op.f("uq_decisions_id")),
    )
    op.create_index(op.f("ix_decisions_batch_id"), "decisions", ["batch_id"])
    op.create_table(
        "subjects",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("decision_id", IDENTIFIER, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_subjects_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "subject", name=op.f("pk_subjects")),
        sqlite_with_rowid=False,
    )


def _what_follows_a_decision() -> None:
    op.create_table(
        "events",
        sa.Column("decision", SERIAL, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_events_batch_id")),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.serial"], name=op.f("fk_events_decision")
        ),
        sa.PrimaryKeyConstraint("decision", "event_id", name=op.f("pk_events")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_events_batch_id"), "events", ["batch_id"])
    op.create_table(
        "activations",
        sa.Column("decision", SERIAL, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_activations_batch_id")),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.serial"], name=op.f("fk_activations_decision")
        ),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_activations")),
    )
    op.create_index(op.f("ix_activations_batch_id"), "activations", ["batch_id"])
    op.create_table(
        "cancellations",
        sa.Column("decision", SERIAL, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_cancellations_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.serial"], name=op.f("fk_cancellations_decision")
        ),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_cancellations")),
    )
    op.create_index(op.f("ix_cancellations_batch_id"), "cancellations", ["batch_id"])


def _accounts() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "users",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("email", IDENTIFIER, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'manager', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("selector", IDENTIFIER, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("selector", name=op.f("uq_api_keys_selector")),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", IDENTIFIER, nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_subject_id", "audit_log", ["subject", "id"])
