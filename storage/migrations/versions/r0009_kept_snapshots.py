"""Find the snapshots whose arrays are still kept."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEPT = sa.text("length(statistic) > 0")


def upgrade() -> None:
    op.create_index(
        "ix_snapshots_kept",
        "snapshots",
        ["experiment_id", "at"],
        sqlite_where=KEPT,
        postgresql_where=KEPT,
    )


def downgrade() -> None:
    op.drop_index("ix_snapshots_kept", "snapshots")
