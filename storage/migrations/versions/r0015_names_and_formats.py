"""Rename tables and columns to the words of the field; blobs get the number of their format.

Renaming changes no row, so it is quick however large a table is. Rows from before have no number,
and are read as format 0; going back takes the number away.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = (
    ("grounds", "inference_states"),
    ("bases", "retained_sums"),
    ("departed", "retained_counts"),
    ("restrictions", "eligible_sets"),
)
COLUMNS = (  # by the new names of their tables
    ("snapshots", "tally", "arm_counts"),
    ("retained_sums", "tally", "arm_counts"),
    ("retained_sums", "grounds", "inference_state"),
    ("decisions", "restriction", "eligible_set"),
)
BLOBS = (
    ("snapshots", "statistic"),
    ("snapshots", "arm_counts"),
    ("inference_states", "content"),
    ("retained_sums", "statistic"),
    ("retained_sums", "arm_counts"),
    ("retained_sums", "inference_state"),
)
DOCUMENTS = (
    ("configurations", "body"),
    ("drafts", "body"),
    ("audit_log", "before"),
    ("audit_log", "after"),
)
HEAD = '{"format":1,"content":'


def upgrade() -> None:
    for old, new in TABLES:
        op.rename_table(old, new)
        _rename_constraints(new, old, new)
    for table, old, new in COLUMNS:
        _rename_column(table, old, new)


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    mark = r"'\xc101'::bytea" if postgresql else "x'c101'"
    for table, column in BLOBS:
        op.execute(
            f"UPDATE {table} SET {column} = substr({column}, 3)"  # noqa: S608 - names of our own
            f" WHERE substr({column}, 1, 2) = {mark}"
        )
    for table, column in DOCUMENTS:
        query = (
            f"UPDATE {table} SET {column} ="  # noqa: S608 - as above
            f" substr({column}, :length + 1, length({column}) - :length - 1)"
            f" WHERE substr({column}, 1, :length) = :head"
        )
        op.execute(sa.text(query).bindparams(head=HEAD, length=len(HEAD)))
    for table, old, new in reversed(COLUMNS):
        _rename_column(table, new, old)
    for old, new in reversed(TABLES):
        op.rename_table(new, old)
        _rename_constraints(old, new, old)


def _rename_column(table: str, old: str, new: str) -> None:
    # Not by Alembic, which copies the whole table in SQLite.
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def _rename_constraints(table: str, old: str, new: str) -> None:
    """Rename constraints with their table; SQLite keeps their names, which nothing there needs."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT pk_{old} TO pk_{new}")
        op.execute(
            f"ALTER TABLE {table} RENAME CONSTRAINT fk_{old}_experiment_id"
            f" TO fk_{new}_experiment_id"
        )
