"""Keep what results rest on: a third mark of batches, the sums, and what did not fit."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MISHAPS = ("clipped", "unknown", "missing", "repeated", "late")
WAS_NEW = "counted_version IS NULL AND due_at IS NOT NULL"
NEW = "counted_version IS NULL AND (due_at IS NOT NULL OR kind = 'choose')"
OPEN = "folded_version IS NOT NULL AND closed_version IS NULL"


def upgrade() -> None:
    op.create_table(
        "grounds",
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_grounds_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", name=op.f("pk_grounds")),
    )
    op.add_column("batches", sa.Column("closed_version", sa.Integer()))
    for name in ("repeated", "late"):
        op.add_column("batches", _count(name))
    for name in MISHAPS:
        op.add_column("experiments", _count(name))
    _fill()
    op.drop_index("ix_batches_new", "batches")
    _index("ix_batches_new", "id", NEW)
    _index("ix_batches_open", "created_at", OPEN)


def _fill() -> None:
    op.execute(
        "UPDATE batches SET closed_version = folded_version WHERE kind IN ('reward', 'cancel')"
    )
    op.execute(
        "UPDATE batches SET late = (SELECT count(*) FROM events"
        " WHERE events.batch_id = batches.id AND events.late) WHERE kind = 'reward'"
    )
    for name in MISHAPS:
        op.execute(
            f"UPDATE experiments SET {name} = (SELECT coalesce(sum(batches.{name}), 0)"  # noqa: S608
            " FROM batches WHERE batches.experiment_id = experiments.id"
            " AND batches.counted_version IS NOT NULL)"
        )


def downgrade() -> None:
    op.drop_index("ix_batches_open", "batches")
    op.drop_index("ix_batches_new", "batches")
    _index("ix_batches_new", "id", WAS_NEW)
    for name in MISHAPS:
        op.drop_column("experiments", name)
    for name in ("closed_version", "repeated", "late"):
        op.drop_column("batches", name)
    op.drop_table("grounds")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def _index(name: str, column: str, where: str) -> None:
    op.create_index(
        name,
        "batches",
        ["experiment_id", column],
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
