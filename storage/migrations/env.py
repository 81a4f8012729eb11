"""Alembic's environment: migrations run on the connection and transaction of the caller."""

from alembic import context

from storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # which alters tables by copying them
)
context.run_migrations()
