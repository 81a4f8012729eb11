"""Let an API key have a new token while the one before still works."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("previous_selector", IDENTIFIER, nullable=True))
    op.add_column("api_keys", sa.Column("previous_digest", sa.LargeBinary(), nullable=True))
    op.add_column("api_keys", sa.Column("previous_until", sa.Double(), nullable=True))
    op.create_index("ix_api_keys_previous_selector", "api_keys", ["previous_selector"])


def downgrade() -> None:
    op.drop_index("ix_api_keys_previous_selector", "api_keys")
    for column in ("previous_until", "previous_digest", "previous_selector"):
        op.drop_column("api_keys", column)
