"""Keep when the value of an event became the current one."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TABLES = ("events", "waiting_events", "unmatched_events")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("as_of", sa.Double(), nullable=True))


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_column(table, "as_of")
