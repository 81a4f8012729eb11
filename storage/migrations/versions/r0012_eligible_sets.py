"""Bound the restrictions of an experiment, and let what did not fit be verified."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MISHAPS = ("clipped", "unknown", "missing", "repeated", "late", "skewed")


def upgrade() -> None:
    op.create_table(
        "restrictions",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_restrictions_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "digest", name=op.f("pk_restrictions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "departed",
        sa.Column("experiment_id", SERIAL, nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in MISHAPS),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_departed_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_departed")),
    )
    # What is counted so far is taken for right: batches were removed, and some never counted.
    differences = ", ".join(
        f"e.{name} - coalesce(sum(b.{name}), 0)"  # names of our own
        for name in MISHAPS
    )
    op.execute(
        f"INSERT INTO departed (experiment_id, {', '.join(MISHAPS)})"  # noqa: S608
        f" SELECT e.id, {differences} FROM experiments e LEFT JOIN batches b"
        " ON b.experiment_id = e.id AND b.counted_version IS NOT NULL GROUP BY e.id"
    )


def downgrade() -> None:
    op.drop_table("departed")
    op.drop_table("restrictions")
