"""Keep the probabilities that decisions were drawn from, and sums that are being made anew."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "allocations",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("policy_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("configuration_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("eligible_set", sa.LargeBinary(), nullable=False),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_allocations_experiment_id")
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id",
            "policy_version",
            "configuration_version",
            "eligible_set",
            name=op.f("pk_allocations"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "resummations",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("from_format", sa.Integer(), nullable=False),
        sa.Column("batch_created_at", sa.Double(), nullable=True),
        sa.Column("batch_id", SERIAL, nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_resummations_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_resummations")),
    )


def downgrade() -> None:
    op.drop_table("resummations")
    op.drop_table("allocations")
