"""Match events by message id, and by subject and time."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
PENDING = sa.text("index_pending")


def upgrade() -> None:
    op.add_column("batches", sa.Column("index_pending", sa.Boolean()))
    op.create_index(
        "ix_batches_index_pending",
        "batches",
        ["experiment_id", "id"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
    op.add_column("decisions", sa.Column("match_key", sa.LargeBinary()))
    op.add_column("experiments", sa.Column("attribution", sa.Text()))
    op.add_column("unmatched_events", sa.Column("message_id", IDENTIFIER))
    op.create_table(
        "subject_runs",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("bits", sa.SmallInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_subject_runs_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_runs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_subject_runs_experiment_id"), "subject_runs", ["experiment_id"])
    op.create_table(
        "subject_pages",
        sa.Column("id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_pages")),
    )
    op.create_table(
        "attributions",
        sa.Column("source", IDENTIFIER, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("source", "event_id", "decision", name=op.f("pk_attributions")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_attributions_decision"), "attributions", ["decision"])
    op.create_table(
        "message_ids",
        sa.Column("message_id", IDENTIFIER, nullable=False),
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("message_id", "decision", name=op.f("pk_message_ids")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_message_ids_decision"), "message_ids", ["decision"])


def downgrade() -> None:
    for table in ("message_ids", "attributions", "subject_pages", "subject_runs"):
        op.drop_table(table)
    op.drop_column("unmatched_events", "message_id")
    op.drop_column("experiments", "attribution")
    op.drop_column("decisions", "match_key")
    op.drop_index("ix_batches_index_pending", "batches")
    op.drop_column("batches", "index_pending")
