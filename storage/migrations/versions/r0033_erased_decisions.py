"""Keep hashes of the ids of erased decisions, for links of their emails."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erased_decisions",
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_erased_decisions")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("erased_decisions")
