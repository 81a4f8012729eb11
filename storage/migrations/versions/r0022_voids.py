"""Keep what was voided, what each actor wrote, and sums by the key that asked."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "voids",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("call_id", SERIAL, nullable=True),
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("restores", SERIAL, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("decisions", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_voids_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voids")),
    )
    op.create_index(op.f("ix_voids_experiment_id"), "voids", ["experiment_id"])
    op.create_table(
        "actor_counts",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("chosen", sa.BigInteger(), nullable=False),
        sa.Column("activated", sa.BigInteger(), nullable=False),
        sa.Column("rewarded", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_actor_counts_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "actor", name=op.f("pk_actor_counts")),
    )
    op.add_column("experiments", sa.Column("voided", sa.Integer(), nullable=True))
    op.add_column("inference_states", sa.Column("senders", sa.LargeBinary(), nullable=True))
    op.add_column("retained_sums", sa.Column("senders", sa.LargeBinary(), nullable=True))
    op.add_column("retained_sums", sa.Column("removed_before", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("retained_sums", "removed_before")
    op.drop_column("retained_sums", "senders")
    op.drop_column("inference_states", "senders")
    op.drop_column("experiments", "voided")
    op.drop_table("actor_counts")
    op.drop_table("voids")
