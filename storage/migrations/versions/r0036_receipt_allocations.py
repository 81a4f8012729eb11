"""Keep the probabilities of single decisions for their receipts."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "receipt_allocations",
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=True),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_receipt_allocations_experiment_id")
        ),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_receipt_allocations")),
    )
    op.create_index(
        "ix_receipt_allocations_asked",
        "receipt_allocations",
        ["experiment_id", "asked_at", "decision"],
    )


def downgrade() -> None:
    op.drop_table("receipt_allocations")
