"""Let a stopped experiment go on sending one arm, and tell those decisions from the others."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiments", sa.Column("shipped", sa.SmallInteger()))
    op.add_column(
        "decisions",
        sa.Column("shipped", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    op.drop_column("decisions", "shipped")
    op.drop_column("experiments", "shipped")
