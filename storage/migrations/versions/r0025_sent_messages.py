"""Keep which messages a messenger handed to the mail server, so that none is sent twice."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sent_messages",
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("connection_id", SERIAL, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('sending', 'sent')", name=op.f("ck_sent_messages_state")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("fk_sent_messages_connection_id")
        ),
        sa.PrimaryKeyConstraint("message", name=op.f("pk_sent_messages")),
        sqlite_with_rowid=False,
    )
    for column in ("subject", "connection_id", "changed_at"):
        op.create_index(op.f(f"ix_sent_messages_{column}"), "sent_messages", [column])


def downgrade() -> None:
    op.drop_table("sent_messages")
