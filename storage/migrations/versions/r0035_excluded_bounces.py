"""Let a connection take out emails whose address bounced."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

COLUMNS = (("connections", "excludes_bounces"), ("unmatched_events", "address_bounce"))


def upgrade() -> None:
    for table, name in COLUMNS:
        op.add_column(
            table, sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
        )


def downgrade() -> None:
    for table, name in reversed(COLUMNS):
        op.drop_column(table, name)
