"""SQLite: one file, one writer at a time, readers beside it."""

import operator
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Select,
    Table,
    TableValuedAlias,
    Text,
    Update,
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

from bandits import waits
from bandits.errors import NoDatabase, Unavailable
from storage.databases.database import (
    STATEMENTS_KEPT,
    BulkInsert,
    DatabaseProgress,
    ReadOnlyDatabase,
    Row,
    Transaction,
    translate_errors,
)
from storage.private_files import create_private, make_private
from storage.schema import metadata

BUSY_SECONDS = 5.0  # to wait for another writer
_PAUSE_SECONDS = 0.002
_PURGE_SECONDS = 2.0  # to wait for those who read an older state
_PURGE_PAUSE_SECONDS = 0.05
_PRIMARY = 0xFF  # of an error's code; the rest names its cause more closely
_AT_ONCE = 200  # rows in one statement; for each number of rows the driver keeps one prepared
_BUSY = "the database is busy writing"


class Sqlite:
    """A SQLite file in write-ahead mode, every commit synchronised to the disk."""

    def __init__(self, url: URL, *, create: bool = False) -> None:
        """Prepare to open the file of `url`; it is opened on first use, and made if `create`."""
        self._file = _DatabaseFile(Path(url.database or ""), create=create)
        self.engine = self._connections(
            url, _begin_reading, {"timeout": BUSY_SECONDS}, pool_size=8, max_overflow=56
        )
        # Of this process one writes at a time, always on the same connection: its statements are
        # prepared, and it never waits for a lock in SQLite's own way, see `_begin_writing`.
        self.writer = self._connections(
            url, _begin_writing, {"timeout": 0.0, "cached_statements": 512}, pool_size=1
        )
        event.listen(self.writer, "connect", self._keep_driver)
        self._driver: sqlite3.Connection | None = None  # the writer's
        # Waiting threads of this process queue here rather than poll the file's lock.
        self._turn = threading.Lock()
        # Of a short wait for the file nothing follows: a fold may write for a second or two.
        self.progress = DatabaseProgress()

    def _connections(
        self, url: URL, begin: Callable[[Connection], None], arguments: dict[str, Any], **pool: int
    ) -> Engine:
        engine = create_engine(
            url,
            hide_parameters=True,  # logged errors have no ids and no contexts
            connect_args=arguments,
            pool_timeout=BUSY_SECONDS,
            **pool,
        )
        event.listen(engine, "do_connect", lambda *_: self._file.prepare())
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "connect", self._file.note_opened)
        event.listen(engine, "begin", begin)
        return engine

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.engine.dispose()
        self._driver = None
        self.writer.dispose()
        self._file.note_closed()

    def check_writable(self) -> None:
        """Make sure that the file and its file system take writes, without one."""
        self._file.check_writable()

    def _keep_driver(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        self._driver = cast("sqlite3.Connection", connection)

    @contextmanager
    def reading(self, *, consistent: bool = False) -> Iterator[Transaction]:  # noqa: ARG002 - always is
        """Open a transaction that only reads; in write-ahead mode it sees one moment."""
        waits.seconds_left(BUSY_SECONDS)
        self._file.check()
        with translate_errors(self._lacks_tables), self.engine.begin() as connection:
            yield _SqliteTransaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open the one transaction that may write."""
        if not self._turn.acquire(timeout=waits.seconds_left(BUSY_SECONDS)):
            raise Unavailable(_BUSY)
        try:
            self._file.check()
            with translate_errors(self._lacks_tables), self.writer.begin() as connection:
                yield _SqliteTransaction(connection)
        finally:
            self._turn.release()

    def purge(self) -> bool:
        """Empty the write-ahead log, whose older pages still hold what was deleted since.

        That takes a moment in which nobody reads an older state; it is waited for, and nobody else
        waits meanwhile.
        """
        until = time.monotonic() + _PURGE_SECONDS
        while True:
            with translate_errors(self._lacks_tables):
                if self._empty_log():
                    return True
            if time.monotonic() > until:
                return False
            time.sleep(_PURGE_PAUSE_SECONDS)

    def _empty_log(self) -> bool:
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise Unavailable(_BUSY)
        try:
            self._file.check()
            with closing(self.writer.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                (row,) = cursor.fetchall()
                return bool(row[0] == 0)
        finally:
            self._turn.release()

    def _lacks_tables(self, error: object) -> bool:
        """Return true where a statement failed since the file lacks a table or a column of ours.

        SQLite has one code for all faults of a statement, so the file's own columns are read.
        """
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
            return False
        with suppress(SQLAlchemyError), self.engine.begin() as connection:
            return any(_missing_columns(connection, table) for table in metadata.tables.values())
        return False

    def append(
        self, statement: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and few that are numbered in it, past SQLAlchemy, or nothing."""
        if not self._turn.acquire(timeout=waits.seconds_left(BUSY_SECONDS)):
            raise Unavailable(_BUSY)
        driver = None
        try:
            self._file.check()
            driver = self._driver
            if driver is None:  # nothing was written yet
                return None
            row_sql, parameters, rows_sql = _append_statements(statement, len(rows))
            driver.execute("BEGIN IMMEDIATE")
            row: Row | None = driver.execute(row_sql, parameters(values)).fetchone()
            if row is not None:
                first = row[0] * statement.places
                serials = zip(range(first, first + len(rows)))
                numbered = chain.from_iterable(map(operator.add, serials, rows))
                driver.execute(rows_sql, tuple(numbered))
                driver.execute("COMMIT")
        except sqlite3.Error:
            return None
        finally:
            if driver is not None:
                with suppress(sqlite3.Error):
                    driver.rollback()  # which does nothing after a commit
            self._turn.release()
        return row


class _SqliteTransaction(Transaction):
    """A transaction of SQLite, where one that may write is alone."""

    def lock(self, name: str, *, shared: bool = False) -> None:
        """Do nothing: no other transaction writes meanwhile."""

    def is_any(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Return the condition that a column equals one of many values."""
        values_table = func.json_each(_pack(values)).table_valued("value")
        return column.in_(select(values_table.c.value))

    def where_any(self, statement: Select[Any] | Update, column: Column[Any]) -> Executable:
        """Return a statement where a column equals one of the values in ``values``, made once."""
        return _where_any(statement, column)

    def pack(self, values: Sequence[Any]) -> str:
        """Pack many values into the parameter ``values``."""
        return _pack(values)

    def count(self, column: Column[Any], values: Sequence[Any]) -> int:
        """Look the rows up for one value after the other, where `in` sorts the values before."""
        count: int = self.execute(_count_query(column), {"values": _pack(values)}).scalar_one()
        return count

    def find_numbers(
        self, number: Column[int], column: Column[Any], values: Sequence[Any]
    ) -> list[int]:
        """Return, for each of many values of a unique column, the row's number, or 0."""
        numbers = [0] * len(values)
        query = _number_query(number, column)
        for place, row_number in self.fetch_plain(query, {"values": _pack(values)}):
            numbers[place] = row_number
        return numbers

    @staticmethod
    def join_each(outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]) -> Select[Any]:
        """Join: SQLite looks the rows up for each of the outer ones, by their index."""
        return rows.add_columns(*columns).select_from(outer)

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Insert rows but those that are in the table already; return how many were inserted."""
        # The driver lets other threads run at every row of executemany, and then waits for them;
        # and a statement of many rows takes less than one for each.
        inserted = 0
        for start in range(0, len(rows), _AT_ONCE):
            portion = rows[start : start + _AT_ONCE]
            sql = f"{_insert_sql(table, columns, len(portion))} ON CONFLICT DO NOTHING"
            parameters = tuple(chain.from_iterable(portion))
            inserted += self.connection.exec_driver_sql(sql, parameters).rowcount
        return inserted


class _DatabaseFile:
    """The file of a SQLite database, which may be moved, removed or replaced while it is open.

    An open file outlives its name: rows committed to a removed file are durable, and gone with the
    process.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """Watch `path`; only with `create` may no file be there before it is opened."""
        self._path = path
        self._create = create
        self._opened: tuple[int, int] | None = None

    def check(self) -> None:
        """Make sure that the file at the path is the one that is open, if one is.

        Raises:
            NoDatabase: there is no file at the path, or another one.
        """
        try:
            status = self._path.stat()
        except OSError:
            if self._opened is not None:
                raise NoDatabase(
                    f"there is no database {self._path} any more; bring it back"
                ) from None
            if not self._create:  # a slip makes no empty database
                raise NoDatabase(
                    f"there is no database {self._path}; `bandits db upgrade` makes it"
                ) from None
            return
        if self._opened is not None and self._opened != (status.st_dev, status.st_ino):
            raise NoDatabase(
                f"there is no database {self._path} any more: another file stands in its place;"
                " stop whatever uses it, and start that again"
            )

    def check_writable(self) -> None:
        """Make sure that the file may be written, and that its file system is not read-only.

        Raises:
            ReadOnlyDatabase: it may not, or it is.
        """
        with suppress(OSError):  # `check` says what is wrong
            read_only = os.statvfs(self._path).f_flag & os.ST_RDONLY
            if read_only or not os.access(self._path, os.W_OK):
                raise ReadOnlyDatabase(f"{self._path} cannot be written: it is read-only")

    def prepare(self) -> None:
        """Make sure of the file, and keep other users from it and from what stands beside it.

        SQLite creates the files beside it with the rights that it has.

        Raises:
            NoDatabase: as `check`.
        """
        self.check()
        if self._opened is not None:
            return
        if self._create:
            with suppress(OSError):  # SQLite says why
                create_private(self._path)
        for ending in ("", "-wal", "-shm"):
            make_private(Path(f"{self._path}{ending}"))

    def note_opened(self, *_: object) -> None:
        """Remember the file that was opened first."""
        if self._opened is None:
            with suppress(OSError):
                status = self._path.stat()
                self._opened = status.st_dev, status.st_ino

    def note_closed(self) -> None:
        """Forget the file that was open; any file at the path may be opened next."""
        self._opened = None


def _pack(values: Sequence[Any]) -> str:
    """Pack numbers or texts for `json_each`."""
    return msgspec.json.encode(values).decode()


def _unpacked() -> TableValuedAlias:
    """Return the table of the packed parameter ``values``: each ``value`` with its place, `key`."""
    return func.json_each(bindparam("values", type_=Text())).table_valued("key", "value")


@lru_cache(STATEMENTS_KEPT)
def _where_any(statement: Select[Any] | Update, column: Column[Any]) -> Executable:
    return statement.where(column.in_(select(_unpacked().c.value)))


@cache
def _count_query(column: Column[Any]) -> Select[Any]:
    return select(func.count()).where(column == _unpacked().c.value)


@cache
def _number_query(number: Column[int], column: Column[Any]) -> Select[Any]:
    values = _unpacked()
    return select(values.c.key, number).where(column == values.c.value)


@cache
def _append_statements(
    statement: BulkInsert, n: int
) -> tuple[str, Callable[[Mapping[str, Any]], Row], str]:
    """Return SQL for the one row, the choice of its parameters, and SQL for n rows."""
    compiled: SQLCompiler = statement.insert_row().compile(dialect=dialect())
    parameters = operator.itemgetter(*(compiled.positiontup or ()))
    rows = _insert_sql(statement.table, (statement.serial, *statement.columns), n)
    return str(compiled), parameters, rows


def _insert_sql(table: Table, columns: Sequence[str], n: int) -> str:
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([marks] * n)}"  # noqa: S608 - names of our own


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, nowhere else
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten, not only unlinked
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.close()


def _missing_columns(connection: Connection, table: Table) -> set[str]:
    """Find the columns of a table that its file does not have."""
    rows = connection.exec_driver_sql(f"PRAGMA table_info({table.name})")
    return set(table.columns.keys()) - {row.name for row in rows}


def _is_locked(error: object) -> bool:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & _PRIMARY in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _write_ahead(cursor: Any) -> None:
    """Switch to write-ahead mode; SQLite itself does not wait where another process does it too."""
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
    until = time.monotonic() + waits.seconds_left(BUSY_SECONDS)
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _is_locked(error.orig) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.0, 2 * _PAUSE_SECONDS))  # noqa: S311 - not for secrets
        else:
            return
