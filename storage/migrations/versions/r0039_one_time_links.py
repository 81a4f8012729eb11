"""Keep one-time links: of the first account, of invitations and of new passwords."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0037"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "one_time_links",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("email", IDENTIFIER, nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "purpose IN ('set-up', 'invitation', 'reset')", name=op.f("ck_one_time_links_purpose")
        ),
        sa.CheckConstraint(
            "role IN ('viewer', 'manager', 'admin')", name=op.f("ck_one_time_links_role")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_links")),
        sa.UniqueConstraint("digest", name=op.f("uq_one_time_links_digest")),
        sa.UniqueConstraint("purpose", "email", name=op.f("uq_one_time_links_purpose_email")),
    )


def downgrade() -> None:
    op.drop_table("one_time_links")
