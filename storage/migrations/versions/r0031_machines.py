"""Keep what tells machines from people: traces of events, counts of networks, rules in force."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TRACE = {
    "kind": sa.SmallInteger,
    "link": sa.BigInteger,
    "network": sa.BigInteger,
    "agent": sa.SmallInteger,
    "signs": sa.SmallInteger,
    "mailbox": sa.SmallInteger,
    "happened_at": sa.Double,
}


def upgrade() -> None:
    for name, kind in TRACE.items():
        op.add_column("events", sa.Column(name, kind(), nullable=True))
    op.add_column("unmatched_events", sa.Column("trace", sa.LargeBinary(), nullable=True))
    op.add_column("batches", sa.Column("freezes_at", sa.Double(), nullable=True))
    op.create_index(
        "ix_batches_unfrozen",
        "batches",
        ["freezes_at", "id"],
        sqlite_where=sa.text("freezes_at IS NOT NULL"),
        postgresql_where=sa.text("freezes_at IS NOT NULL"),
    )
    op.create_table(
        "network_counts",
        sa.Column("network", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("emails", sa.Integer(), nullable=False),
        sa.Column("swept", sa.Integer(), nullable=False),
        sa.Column("week_emails", sa.Integer(), nullable=False),
        sa.Column("week_swept", sa.Integer(), nullable=False),
        sa.Column("frozen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("network", "minute", name=op.f("pk_network_counts")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_network_counts_clicked",
        "network_counts",
        ["network", "frozen_at"],
        sqlite_where=sa.text("emails > 0"),
        postgresql_where=sa.text("emails > 0"),
    )
    op.create_index("ix_network_counts_minute", "network_counts", ["minute"])
    op.add_column("experiments", sa.Column("machine_rules", sa.SmallInteger(), nullable=True))
    op.add_column("inference_states", sa.Column("verdicts", sa.LargeBinary(), nullable=True))
    op.add_column("retained_sums", sa.Column("verdicts", sa.LargeBinary(), nullable=True))
    op.create_table(
        "rule_changes",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rules", sa.SmallInteger(), nullable=True),
        sa.Column("earlier_rules", sa.SmallInteger(), nullable=True),
        sa.Column("batch_created_at", sa.Double(), nullable=True),
        sa.Column("batch_id", SERIAL, nullable=True),
        sa.Column("left_over", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_rule_changes_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "version", name=op.f("pk_rule_changes")),
    )


def downgrade() -> None:
    op.drop_table("rule_changes")
    op.drop_column("retained_sums", "verdicts")
    op.drop_column("inference_states", "verdicts")
    op.drop_column("experiments", "machine_rules")
    op.drop_table("network_counts")
    op.drop_index("ix_batches_unfrozen", "batches")
    op.drop_column("batches", "freezes_at")
    op.drop_column("unmatched_events", "trace")
    for name in reversed(TRACE):
        op.drop_column("events", name)
