"""Count events that came before their decision was made or activated."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = ("batches", "experiments", "departed")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("early", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "early")
