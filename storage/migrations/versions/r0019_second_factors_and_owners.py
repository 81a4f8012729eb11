"""Give users a second factor and a password to be changed, and keys the person they end with.

A key that a person made, or that such a key made, ends with that person; others end with nobody.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

USER_COLUMNS = (
    sa.Column("must_change_password", sa.SmallInteger(), nullable=False, server_default="0"),
    sa.Column("totp_secret", sa.Text(), nullable=True),
    sa.Column("totp_step", sa.BigInteger(), nullable=True),
)

keys = sa.table(
    "api_keys",
    sa.column("id", sa.BigInteger),
    sa.column("created_by", sa.Text),
    sa.column("owner", sa.Text),
)
users = sa.table("users", sa.column("email", sa.Text))


def upgrade() -> None:
    for column in USER_COLUMNS:
        op.add_column("users", column)
    op.add_column("api_keys", sa.Column("owner", sa.Text(), nullable=True))
    connection = op.get_bind()
    owners = {email: email for (email,) in connection.execute(sa.select(users.c.email))}
    rows = connection.execute(sa.select(keys.c.id, keys.c.created_by).order_by(keys.c.id))
    for number, author in rows.all():  # a key is younger than the key that made it
        if author in owners:
            owners[f"key:{number}"] = owners[author]
            query = sa.update(keys).where(keys.c.id == number)
            connection.execute(query.values(owner=owners[author]))


def downgrade() -> None:
    op.drop_column("api_keys", "owner")
    for column in reversed(USER_COLUMNS):
        op.drop_column("users", column.name)
