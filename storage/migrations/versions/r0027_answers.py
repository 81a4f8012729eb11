"""Note who else was answered with a decision, ids that were given on, and who uses eligible sets.

Sets from before are used by who is noted as their first actor, at a time that is not known.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "repeats",
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.PrimaryKeyConstraint("decision", "actor", name=op.f("pk_repeats")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "former_ids",
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_former_ids")),
    )
    op.create_table(
        "eligible_set_uses",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("actor", IDENTIFIER, nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_eligible_set_uses_experiment_id")
        ),
        sa.PrimaryKeyConstraint(
            "experiment_id", "digest", "actor", name=op.f("pk_eligible_set_uses")
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("eligible_set_uses")
    op.drop_table("former_ids")
    op.drop_table("repeats")
