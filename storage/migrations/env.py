"""What Alembic runs to migrate: on the connection, in the transaction, that it is given."""

from alembic import context

from storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # which alters tables by copying them
)
context.run_migrations()
