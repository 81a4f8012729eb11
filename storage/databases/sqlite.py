"""SQLite: one file, one writer at a time, readers beside it."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import (
    URL,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects.sqlite.pysqlite import dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler

from bandits.errors import Unavailable
from storage.databases import BulkInsert, Row, Transaction, translate_errors
from storage.databases.sqlite_file import DatabaseFile
from storage.schema import metadata

BUSY_SECONDS = 5.0  # to wait for another writer
_PAUSE_SECONDS = 0.002
_PRIMARY = 0xFF  # of an error's code; the rest tells more of its cause
_AT_ONCE = 200  # rows in one statement; for each number of rows the driver keeps one prepared


class Sqlite:
    """A SQLite file in write-ahead mode, every commit synchronised to the disk."""

    def __init__(self, url: URL, *, create: bool = False) -> None:
        """Prepare to open the file of `url`; nothing is opened yet, nor made unless `create`."""
        self._file = DatabaseFile(Path(url.database or ""), create=create)
        self.engine = self._connections(
            url, _begin_reading, {"timeout": BUSY_SECONDS}, pool_size=8, max_overflow=56
        )
        # Of this process one writes at a time, always on the same connection: its statements are
        # prepared, and it never waits for a lock in SQLite's own way, see `_begin_writing`.
        self.writer = self._connections(
            url, _begin_writing, {"timeout": 0.0, "cached_statements": 512}, pool_size=1
        )
        event.listen(self.writer, "connect", self._note_writing)
        self._writing: sqlite3.Connection | None = None  # the writer's, as its driver gives it
        # Waiting threads of this process queue here rather than poll the file's lock.
        self._queue = threading.Lock()

    def _connections(
        self, url: URL, begin: Callable[[Connection], None], arguments: dict[str, Any], **pool: int
    ) -> Engine:
        engine = create_engine(
            url,
            hide_parameters=True,  # an error that is logged tells no ids and no contexts
            connect_args=arguments,
            pool_timeout=BUSY_SECONDS,
            **pool,
        )
        event.listen(engine, "do_connect", lambda *_: self._file.check())
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "connect", self._file.note_opened)
        event.listen(engine, "begin", begin)
        return engine

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.engine.dispose()
        self._writing = None
        self.writer.dispose()
        self._file.note_closed()

    def _note_writing(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        self._writing = cast("sqlite3.Connection", connection)

    @contextmanager
    def reading(self, *, consistent: bool = False) -> Iterator[Transaction]:  # noqa: ARG002 - always is
        """Open a transaction that only reads; in write-ahead mode it sees one moment."""
        self._file.check()
        with translate_errors(self._lacks_tables), self.engine.begin() as connection:
            yield Transaction(connection, self)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open the one transaction that may write."""
        with self._turn(), translate_errors(self._lacks_tables), self.writer.begin() as connection:
            yield Transaction(connection, self)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread writes, and let none write meanwhile."""
        if not self._queue.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("the database is busy writing")
        try:
            self._file.check()
            yield
        finally:
            self._queue.release()

    def _lacks_tables(self, error: object) -> bool:
        """Tell whether a statement failed since the file lacks a table or a column of ours.

        SQLite has one code for all that can be wrong with a statement, and tells the rest in words;
        so its file is asked.
        """
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
            return False
        with suppress(SQLAlchemyError), self.engine.begin() as connection:
            return any(_lacking(connection, table) for table in metadata.tables.values())
        return False

    def lock(self, connection: Connection, name: str, *, shared: bool = False) -> None:
        """Do nothing: a transaction that may write is alone anyway."""

    def among(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Tell whether a column is one of many numbers or texts."""
        return column.in_(select(_listed(self.packed(values)).c.value))

    def packed(self, values: Sequence[Any]) -> str:
        """Write many values as JSON."""
        return msgspec.json.encode(values).decode()

    def counting(self, column: Column[Any]) -> Select[Any]:
        """Look the rows up for one value after the other, where `in` sorts the values before."""
        return _counting(column)

    def numbers(
        self,
        transaction: Transaction,
        number: Column[int],
        column: Column[Any],
        values: Sequence[Any],
    ) -> list[int]:
        """Find, for each of many values, the number of the row whose unique column it is, or 0."""
        found = [0] * len(values)
        packed = {"values": self.packed(values)}
        for place, one in transaction.many(_numbering(number, column), packed):
            found[place] = one
        return found

    def for_each(
        self, outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]
    ) -> Select[Any]:
        """Join: SQLite looks the rows up for each of the outer ones, by their index."""
        return rows.add_columns(*columns).select_from(outer)

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
    ) -> int:
        """Insert rows, leaving out those that are there before; return how many were inserted."""
        if not rows:
            return 0
        # The driver lets other threads run at every row of executemany, and then waits for them;
        # and a statement of many rows takes less than one for each.
        inserted = 0
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            sql = f"{_insertion(table, columns, len(some))} ON CONFLICT DO NOTHING"
            given = tuple(chain.from_iterable(some))
            inserted += connection.exec_driver_sql(sql, given).rowcount
        return inserted

    def append(
        self, appending: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and few that are numbered in it, past SQLAlchemy, or nothing."""
        with self._turn():
            driver = self._writing
            if driver is None:  # nothing was written yet
                return None
            try:
                driver.execute("BEGIN IMMEDIATE")
                found = _append(driver, appending, values, rows)
                if found is not None:
                    driver.execute("COMMIT")
            except sqlite3.Error:
                return None
            finally:
                with suppress(sqlite3.Error):
                    driver.rollback()  # which does nothing after a commit
        return found


def _listed(packed: str | BindParameter[str]) -> TableValuedAlias:
    """Make a table of packed values: ``key`` is the place of each ``value``."""
    return func.json_each(packed).table_valued("key", "value")


@cache
def _counting(column: Column[Any]) -> Select[Any]:
    each = _listed(bindparam("values", type_=Text()))
    return select(func.count()).where(column == each.c.value)


@cache
def _numbering(number: Column[int], column: Column[Any]) -> Select[Any]:
    each = _listed(bindparam("values", type_=Text()))
    return select(each.c.key, number).where(column == each.c.value)


def _append(
    driver: sqlite3.Connection,
    appending: BulkInsert,
    values: Mapping[str, Any],
    rows: Sequence[Row],
) -> Row | None:
    sql, names = _opening(appending)
    found: Row | None = driver.execute(sql, [values[name] for name in names]).fetchone()
    if found is not None:
        first = found[0] * appending.places
        numbered = ((number, *row) for number, row in enumerate(rows, first))
        driver.execute(_inserting(appending, len(rows)), tuple(chain.from_iterable(numbered)))
    return found


@cache
def _opening(appending: BulkInsert) -> tuple[str, Sequence[str]]:
    """Return a statement, and the parameters that its marks stand for."""
    compiled: SQLCompiler = appending.opening().compile(dialect=dialect())
    return str(compiled), compiled.positiontup or ()


@cache
def _inserting(appending: BulkInsert, n: int) -> str:
    return _insertion(appending.table, (appending.numbered, *appending.columns), n)


def _insertion(table: Table, columns: Sequence[str], n: int) -> str:
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([marks] * n)}"  # noqa: S608 - names of our own


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, nowhere else
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.close()


def _lacking(connection: Connection, table: Table) -> set[str]:
    """Find the columns of a table that its file does not have."""
    rows = connection.exec_driver_sql(f"PRAGMA table_info({table.name})")
    return set(table.columns.keys()) - {row.name for row in rows}


def _is_locked(error: object) -> bool:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & _PRIMARY in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _write_ahead(cursor: Any) -> None:
    """Switch to write-ahead mode; SQLite itself does not wait where another process does so too."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: Connection) -> None:
    """Wait for the file's write lock, asking often.

    SQLite's own waiting asks ten times a second in the end: among processes that write without a
    pause, such as a server beside the learner, one may miss every gap between the others.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _is_locked(error.orig) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.0, 2 * _PAUSE_SECONDS))  # noqa: S311 - not for secrets
        else:
            return
