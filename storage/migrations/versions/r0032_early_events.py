"""Keep events that come early, count those of cancelled decisions, and take events back."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
COUNTED = ("batches", "experiments", "retained_counts")


def upgrade() -> None:
    for table in COUNTED:
        op.add_column(
            table, sa.Column("cancelled", sa.Integer(), server_default="0", nullable=False)
        )
    op.create_table(
        "waiting_events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.Column("decision_id", IDENTIFIER, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("trace", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waiting_events")),
        sa.UniqueConstraint(
            "decision_id", "event_id", name=op.f("uq_waiting_events_decision_id_event_id")
        ),
        sqlite_autoincrement=True,
    )
    for column in ("actor", "received_at"):
        op.create_index(op.f(f"ix_waiting_events_{column}"), "waiting_events", [column])
    op.create_table(
        "withdrawals",
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("batch_id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("own_only", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "event_id", "batch_id", name=op.f("pk_withdrawals")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_withdrawals_batch_id"), "withdrawals", ["batch_id"])


def downgrade() -> None:
    op.drop_table("withdrawals")
    op.drop_table("waiting_events")
    for table in reversed(COUNTED):
        op.drop_column(table, "cancelled")
