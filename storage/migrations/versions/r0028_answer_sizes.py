"""Keep how many bytes of answers each API key has, so that none has too many."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ANSWERED = sa.text("answer IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "answer_sizes",
        sa.Column("api_key_id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("api_key_id", name=op.f("pk_answer_sizes")),
    )
    op.create_index(
        "ix_idempotency_keys_answered",
        "idempotency_keys",
        ["api_key_id", "created_at"],
        sqlite_where=ANSWERED,
        postgresql_where=ANSWERED,
    )
    op.execute(
        "INSERT INTO answer_sizes (api_key_id, size)"
        " SELECT api_key_id, SUM(LENGTH(answer)) FROM idempotency_keys"
        " WHERE answer IS NOT NULL GROUP BY api_key_id"
    )


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_answered", "idempotency_keys")
    op.drop_table("answer_sizes")
