"""Note who wrote each batch of the log and first used each eligible set, and limit rates of keys.

Batches and sets from before know nobody.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("actor", sa.Text(), nullable=True))
    op.add_column("eligible_sets", sa.Column("actor", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("rows_per_minute", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "rows_per_minute")
    op.drop_column("eligible_sets", "actor")
    op.drop_column("batches", "actor")
