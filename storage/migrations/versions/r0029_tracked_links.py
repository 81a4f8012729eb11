"""Keep the keys that sign tracked links, the hosts that these lead to, and unsubscribes."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
COUNTS = ("recorded", "repeated", "late", "without_decision", "expired", "refused", "machine")


def upgrade() -> None:
    op.create_table(
        "tracking_keys",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("key_id", IDENTIFIER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("replaced_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("event_at", sa.Double(), nullable=True),
        *(sa.Column(n, sa.BigInteger(), nullable=False, server_default="0") for n in COUNTS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracking_keys")),
        sa.UniqueConstraint("key_id", name=op.f("uq_tracking_keys_key_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "link_hosts",
        sa.Column("host", IDENTIFIER, nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_link_hosts")),
    )
    op.create_table(
        "unsubscribes",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("decision_id", IDENTIFIER, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unsubscribes")),
        sa.UniqueConstraint("decision_id", name=op.f("uq_unsubscribes_decision_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_unsubscribes_at"), "unsubscribes", ["at"])


def downgrade() -> None:
    for table in ("unsubscribes", "link_hosts", "tracking_keys"):
        op.drop_table(table)
