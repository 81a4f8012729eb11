"""Let a decision's serial name its batch, and write the log without looking anything up.

Rows keep their order. What pointed to an old serial points to the new one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IDENTIFIER = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")

OF_DECISIONS = (
    "id, arm, propensity, context, holdout, fallback, restriction, digest, subject, shipped"
)
OF_FOLLOWING = {
    "events": ("event_id", "batch_id", "metric", "value", "occurred_at", "late"),
    "activations": ("batch_id",),
    "cancellations": ("batch_id",),
}


def upgrade() -> None:
    _keep(
        "*, batch_id * 1048576 - 1"
        " + row_number() OVER (PARTITION BY batch_id ORDER BY serial) AS new_serial"
    )
    if op.get_bind().dialect.name == "sqlite":
        _never_give_a_batch_number_again()
    _create_decisions(sa.Column("serial", SERIAL, autoincrement=False, nullable=False))
    _create_following()
    _bring_back(OF_DECISIONS)


def downgrade() -> None:
    _keep("*, serial / 1048576 AS batch_id, row_number() OVER (ORDER BY serial) AS new_serial")
    _create_decisions(
        sa.Column("serial", SERIAL, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_decisions_batch_id")),
    )
    op.create_index(op.f("ix_decisions_batch_id"), "decisions", ["batch_id"])
    _create_following(refer=True)
    _bring_back(f"{OF_DECISIONS}, batch_id")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('decisions', 'serial'), max(serial))"
            " FROM decisions HAVING max(serial) IS NOT NULL"
        )


def _never_give_a_batch_number_again() -> None:
    """Make SQLite count batches for good: else the newest one's number is free once it is gone."""
    op.execute("CREATE TABLE kept_batches AS SELECT * FROM batches")
    op.drop_table("batches")
    op.create_table(
        "batches",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("experiment_id", SERIAL, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("counted_version", sa.Integer(), nullable=True),
        sa.Column("folded_version", sa.Integer(), nullable=True),
        sa.Column("configuration_version", sa.Integer(), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=True),
        sa.Column("clipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unknown", sa.Integer(), server_default="0", nullable=False),
        sa.Column("missing", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "kind IN ('choose', 'activate', 'reward', 'cancel')", name=op.f("ck_batches_kind")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_batches_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO batches SELECT * FROM kept_batches")
    op.drop_table("kept_batches")
    op.create_index("ix_batches_by_time", "batches", ["experiment_id", "created_at", "id"])
    new = sa.text("counted_version IS NULL AND due_at IS NOT NULL")
    pending = sa.text("counted_version IS NOT NULL AND folded_version IS NULL")
    op.create_index("ix_batches_new", "batches", ["experiment_id", "id"], sqlite_where=new)
    op.create_index(
        "ix_batches_pending", "batches", ["experiment_id", "due_at"], sqlite_where=pending
    )


def _keep(columns: str) -> None:
    """Copy the rows, decisions with their new serial, and take the tables away."""
    op.execute(f"CREATE TABLE kept_decisions AS SELECT {columns} FROM decisions")  # noqa: S608 - names of our own
    op.execute("CREATE UNIQUE INDEX ix_kept_decisions ON kept_decisions (serial)")
    for table in OF_FOLLOWING:
        op.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")  # noqa: S608
        op.drop_table(table)
    op.drop_table("decisions")


def _bring_back(columns: str) -> None:
    op.execute(
        f"INSERT INTO decisions (serial, {columns})"  # noqa: S608
        f" SELECT new_serial, {columns} FROM kept_decisions ORDER BY new_serial"
    )
    for table, others in OF_FOLLOWING.items():
        op.execute(
            f"INSERT INTO {table} (decision, {', '.join(others)})"  # noqa: S608
            f" SELECT new_serial, {', '.join(f'k.{column}' for column in others)}"
            f" FROM kept_{table} k JOIN kept_decisions ON serial = decision ORDER BY new_serial"
        )
    for table in ("decisions", *OF_FOLLOWING):
        op.drop_table(f"kept_{table}")


def _create_decisions(serial: sa.Column[int], *others: sa.schema.SchemaItem) -> None:
    op.create_table(
        "decisions",
        serial,
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("arm", sa.SmallInteger(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("context", sa.LargeBinary(), nullable=True),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("fallback", sa.Boolean(), nullable=False),
        sa.Column("restriction", sa.LargeBinary(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("shipped", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_decisions")),
        sa.UniqueConstraint("id", name=op.f("uq_decisions_id")),
        *others,
    )


def _create_following(*, refer: bool = False) -> None:
    op.create_table(
        "events",
        sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
        sa.Column("event_id", IDENTIFIER, nullable=False),
        sa.Column("batch_id", SERIAL, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "event_id", name=op.f("pk_events")),
        *_references("events", refer=refer),
        sqlite_with_rowid=False,
    )
    for table in ("activations", "cancellations"):
        op.create_table(
            table,
            sa.Column("decision", SERIAL, autoincrement=False, nullable=False),
            sa.Column("batch_id", SERIAL, nullable=False),
            sa.PrimaryKeyConstraint("decision", name=op.f(f"pk_{table}")),
            *_references(table, refer=refer),
        )
    for table in OF_FOLLOWING:
        op.create_index(op.f(f"ix_{table}_batch_id"), table, ["batch_id"])


def _references(table: str, *, refer: bool) -> list[sa.ForeignKeyConstraint]:
    if not refer:
        return []
    return [
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f(f"fk_{table}_batch_id")),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.serial"], name=op.f(f"fk_{table}_decision")
        ),
    ]
