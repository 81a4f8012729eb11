"""Note who wrote each batch of the log. Batches from before know nobody."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("actor", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "actor")
