"""Keep connections, the events of theirs that wait for a decision, and those that were refused."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
COUNTS = (
    "deliveries",
    "recorded",
    "repeated",
    "late",
    "without_decision",
    "expired",
    "refused",
    "rejected",
    "refusal_bytes",
)


def upgrade() -> None:
    op.create_table(
        "connections",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("key", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secrets", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.Column("event_at", sa.Double(), nullable=True),
        sa.Column("rejected_at", sa.Double(), nullable=True),
        sa.Column("rejection", sa.Text(), nullable=True),
        *(sa.Column(n, sa.BigInteger(), nullable=False, server_default="0") for n in COUNTS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("key", name=op.f("uq_connections_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "unmatched_events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("connection_id", SERIAL, nullable=False),
        sa.Column("decision_id", IDENTIFIER, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_unmatched_events_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unmatched_events")),
        sa.UniqueConstraint(
            "decision_id", "event_id", name=op.f("uq_unmatched_events_decision_id_event_id")
        ),
        sqlite_autoincrement=True,
    )
    for column in ("connection_id", "received_at", "mark"):
        op.create_index(op.f(f"ix_unmatched_events_{column}"), "unmatched_events", [column])
    op.create_table(
        "refusals",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("connection_id", SERIAL, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_refusals_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sa.UniqueConstraint(
            "connection_id", "digest", name=op.f("uq_refusals_connection_id_digest")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_refusals_received_at"), "refusals", ["received_at"])
    op.create_table(
        "refusal_marks",
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.Column("refusal_id", SERIAL, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("mark", "refusal_id", name=op.f("pk_refusal_marks")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_refusal_marks_refusal_id", "refusal_marks", ["refusal_id"])


def downgrade() -> None:
    for table in ("refusal_marks", "refusals", "unmatched_events", "connections"):
        op.drop_table(table)
