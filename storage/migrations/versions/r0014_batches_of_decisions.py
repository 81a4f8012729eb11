"""Find an experiment's newest decisions behind any number of rewards."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CHOSEN = sa.text("kind = 'choose'")


def upgrade() -> None:
    op.create_index(
        "ix_batches_chosen",
        "batches",
        ["experiment_id", "created_at", "id"],
        sqlite_where=CHOSEN,
        postgresql_where=CHOSEN,
    )


def downgrade() -> None:
    op.drop_index("ix_batches_chosen", "batches")
