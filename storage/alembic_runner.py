"""Alembic, as migrations use it: a module of its own, since to import it takes long."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "migrations"


def run_migrations(connection: Connection) -> None:
    """Run the migrations that are missing, in the connection's transaction."""
    command.upgrade(config(connection), "head")


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration: the folder of migrations, and a connection."""
    alembic = Config()
    alembic.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    alembic.attributes["connection"] = connection
    return alembic
