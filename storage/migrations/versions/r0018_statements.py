"""Keep dated statements, and whether a stopped experiment keeps its control group."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "statements",
        sa.Column("experiment_id", SERIAL, sa.ForeignKey("experiments.id"), primary_key=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.add_column(
        "experiments",
        sa.Column("keeps_control", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    op.drop_column("experiments", "keeps_control")
    op.drop_table("statements")
