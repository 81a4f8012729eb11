"""Count events that a sender's clock told from the future."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = ("batches", "experiments")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("skewed", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "skewed")
