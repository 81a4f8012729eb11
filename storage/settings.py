"""Address of the database: the flag, the environment variable, the default; folders beside it."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from bandits.errors import InvalidInput

DEFAULT_DATABASE_URL = "sqlite:///bandits.db"

F = TypeVar("F", bound=Callable[..., Any])

_EXPECTED = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def database_option(command: F) -> F:
    """Give a command the option ``--database``, passed to it as `database`."""
    option = click.option(
        "--database",
        metavar="URL",
        envvar="BANDITS_DATABASE_URL",
        default=DEFAULT_DATABASE_URL,
        show_default=True,
        show_envvar=True,
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
    )
    return option(command)


def parse_database_url(database_url: str) -> URL:
    """Read a database URL and name the driver for it.

    Raises:
        InvalidInput: it is no URL of a database we can use. The message has no password in it.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise InvalidInput.at("", f"the database's URL cannot be read; {_EXPECTED}") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise InvalidInput.at("", f"no database {url.drivername!r} is known; {_EXPECTED}")
    if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise InvalidInput.at("", "SQLite needs a file: its memory is not shared or durable")
    return url.set(drivername=driver)


def data_folder(database_url: str, name: str) -> Path:
    """Return the folder that a server keeps files of one purpose in unless a setting names another.

    It is beside SQLite's file. With PostgreSQL it is in this user's folder for the state of
    programs, which systemd may name.

    Raises:
        InvalidInput: the URL is none of ours.
    """
    url = parse_database_url(database_url)
    if url.drivername.startswith("sqlite"):
        return Path(f"{url.database}.{name}")
    digest = hashlib.blake2b(database_url.encode(), digest_size=8).hexdigest()
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    parent = os.environ.get("STATE_DIRECTORY") or Path(state, "bandits")
    return Path(parent, f"{name}-{digest}")
