"""Store the rule that shares the sends which capped newcomers leave, for each snapshot."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("allocation_rule", sa.Integer(), nullable=False, server_default="1")
    op.add_column("snapshots", column)


def downgrade() -> None:
    op.drop_column("snapshots", "allocation_rule")
