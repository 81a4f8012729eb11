"""Keep the subjects who want emails to be chosen without their data."""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opt_outs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("subject", sa.LargeBinary(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.UniqueConstraint("subject", name="uq_opt_outs_subject"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("opt_outs")
