"""PostgreSQL, through psycopg 3."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    Text,
    Update,
    any_,
    bindparam,
    cast,
    create_engine,
    event,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from bandits import waits
from bandits.errors import InvalidInput, Unavailable
from storage.databases.database import (
    STATEMENTS_KEPT,
    BulkInsert,
    DatabaseProgress,
    ReadOnlyDatabase,
    Row,
    Transaction,
    is_read_only,
    translate_errors,
)

_FEW = 200  # rows that are sent as one JSON text sooner than copied
_MISSING = ("42P01", "42703")  # undefined_table and undefined_column
LOCK_SECONDS = 10.0  # to wait for what another transaction holds, unless a limit ends sooner
_CONNECTIONS = 32
_USUAL_SHARE = 0.6  # of `LOCK_SECONDS`: how long a statement waits for a lock, told nothing else
_TIMED_OUT = ("55P03", "57014")  # lock_not_available and query_canceled
_NETWORK = {  # ends a connection to a machine that is gone; the watch ends other silence
    "connect_timeout": 4,
    "tcp_user_timeout": 8000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
_BUSY = "every connection to the database is in use"
_LIMIT_LOCKS = text("SELECT set_config('lock_timeout', :limit, true)")
_LOCK = text("SELECT pg_advisory_xact_lock(:number)")
_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(:number)")


class Postgresql:
    """A PostgreSQL database, every commit synchronised to its disk."""

    def __init__(self, url: URL) -> None:
        """Prepare to connect to `url`; nothing is connected yet.

        Raises:
            InvalidInput: psycopg is not installed.
        """
        try:
            import psycopg  # noqa: PLC0415 - an extra

            from storage.databases.connection_watch import ConnectionWatch  # noqa: PLC0415 - needs it
        except ImportError:
            raise InvalidInput.at(
                "", "PostgreSQL needs its driver: pip install 'email-bandits[postgres]'"
            ) from None
        self.engine = create_engine(
            url,
            hide_parameters=True,  # logged errors have no ids and no contexts
            connect_args={name: url.query.get(name, ours) for name, ours in _NETWORK.items()},
            pool_pre_ping=True,  # a restarted server is met with a new connection
            pool_size=8,
            max_overflow=_CONNECTIONS - 8,
            pool_timeout=LOCK_SECONDS,
        )
        self.progress = DatabaseProgress()
        self._watch = ConnectionWatch(self._forget_connections)
        # One connection is that of `append`. Who waits for a place waits within its limit.
        self._places = threading.BoundedSemaphore(_CONNECTIONS - 1)
        self._error = psycopg.Error
        self._driver_errors = (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.errors.ForeignKeyViolation,
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.ReadOnlySqlTransaction,
        )
        self.writer = self.engine
        self._append_lock = threading.Lock()
        self._append_connection: Connection | None = None  # of `append`, held for good
        event.listen(self.engine, "connect", _prepare)

        def connect(
            _dialect: object, _entry: object, names: list[Any], more: dict[str, Any]
        ) -> Any:
            return watch.connect(*names, **more)

        watch = self._watch
        event.listen(self.engine, "do_connect", connect)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self._watch.close()
        with self._append_lock:
            self._drop_append_connection()
        self.engine.dispose()

    def _forget_connections(self) -> None:
        """Close the connections that are not in use: their server is silent, or another one."""
        if self._append_lock.acquire(blocking=False):  # who holds it notices by itself
            try:
                self._drop_append_connection()
            finally:
                self._append_lock.release()
        self.engine.dispose()

    def check_writable(self) -> None:
        """Make sure that the database takes writes, without one."""
        with self.reading() as transaction:
            read_only = transaction.execute(text("SHOW transaction_read_only")).scalar_one()
        if read_only == "on":
            self._forget_connections()  # a new one may lead to the server that takes them
            raise ReadOnlyDatabase

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Take a place for work, and translate its errors."""
        self._watch.check()
        if not self._places.acquire(timeout=waits.seconds_left(LOCK_SECONDS)):
            raise Unavailable(_BUSY)
        try:
            with (
                self.progress.noted(),
                translate_errors(_lacks_tables, self._driver_errors),
            ):
                yield
        except ReadOnlyDatabase:
            self._forget_connections()
            raise
        finally:
            self._places.release()

    @contextmanager
    def reading(self, *, consistent: bool = False) -> Iterator[Transaction]:
        """Open a transaction that only reads; if `consistent`, all of it sees one moment."""
        engine = self.engine
        if consistent:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._working(), engine.begin() as connection:
            _limit_lock_waits(connection)
            yield _PostgresqlTransaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a transaction; each of its statements sees what was committed before it."""
        with self._working(), self.engine.begin() as connection:
            _limit_lock_waits(connection)
            yield _PostgresqlTransaction(connection)

    def append(
        self, statement: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and few that are numbered in it, by one statement, or nothing."""
        numbered = [(place, *row) for place, row in enumerate(rows)]
        unique = statement.columns.index(statement.unique)
        packed = {
            "unique_values": _array([row[unique] for row in rows]),
            "rows": _json((statement.serial, *statement.columns), numbered),
        }
        self._watch.check()
        left = waits.seconds_left(LOCK_SECONDS)
        if left < _USUAL_SHARE * LOCK_SECONDS:
            return None  # its statements have no time-out of their own
        if not self._append_lock.acquire(timeout=left):
            raise Unavailable(_BUSY)
        try:
            with self.progress.noted():
                return self._append_row(_append_sql(statement), {**values, **packed})
        finally:
            self._append_lock.release()

    def _append_row(self, sql: str, values: Mapping[str, Any]) -> Row | None:
        """Append by the statement made for it, where its lock is held."""
        driver = self._appender()
        try:
            row: Row | None = driver.execute(sql, values).fetchone()
        except self._error as error:
            if driver.closed or is_read_only(error):
                self._drop_append_connection()
            if getattr(error, "sqlstate", None) in _TIMED_OUT:  # it would wait as long again
                raise Unavailable(f"the database does not answer: {error}".strip()) from error
            return None
        return row

    def purge(self) -> bool:
        """Do nothing: the server itself vacuums its files, and others may need its log."""
        return True

    def _appender(self) -> Any:
        """Return the driver's connection that `append` uses, each of its statements committed."""
        if self._append_connection is None:
            engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            with translate_errors(_lacks_tables, self._driver_errors):
                self._append_connection = engine.connect()
        return self._append_connection.connection.driver_connection

    def _drop_append_connection(self) -> None:
        if self._append_connection is not None:
            self._append_connection.invalidate()
            self._append_connection.close()
            self._append_connection = None


class _PostgresqlTransaction(Transaction):
    """A transaction of PostgreSQL, beside others that write."""

    def lock(self, name: str, *, shared: bool = False) -> None:
        """Wait for the advisory lock `name` and hold it until the transaction ends."""
        if not shared:  # these are held for longer: a fold, an erasure
            seconds = waits.seconds_left(LOCK_SECONDS)
            self.execute(_LIMIT_LOCKS, {"limit": _milliseconds(seconds)})
        digest = blake2b(name.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        self.execute(_LOCK_SHARED if shared else _LOCK, {"number": number})

    def is_any(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Return the condition that a column equals one of many values."""
        return _is_any(column, literal(_array(values), Text()))

    def where_any(self, statement: Select[Any] | Update, column: Column[Any]) -> Executable:
        """Return a statement where a column equals one of the values in ``values``, made once."""
        return _where_any(statement, column)

    def pack(self, values: Sequence[Any]) -> str:
        """Pack many values into the parameter ``values``."""
        return _array(values)

    def count(self, column: Column[Any], values: Sequence[Any]) -> int:
        """Count the rows whose column equals one of many distinct values."""
        count: int = self.execute(_count_query(column), {"values": _array(values)}).scalar_one()
        return count

    def find_numbers(
        self, number: Column[int], column: Column[Any], values: Sequence[Any]
    ) -> list[int]:
        """Return, for each of many values of a unique column, the row's number, or 0."""
        rows = self.fetch_plain(_number_query(number, column), {"values": _array(values)})
        numbers: dict[Any, int] = dict(rows)
        return [numbers.get(value, 0) for value in values]

    @staticmethod
    def join_each(outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]) -> Select[Any]:
        """Join laterally; the offset keeps the planner from turning it round."""
        lateral = rows.offset(literal_column("0")).lateral()
        return select(*lateral.c, *columns).select_from(outer).join(lateral, true())

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Insert rows but those that are in the table already; return how many were inserted."""
        if not rows:
            return 0
        names = ", ".join(columns)
        if len(rows) <= _FEW:
            sql = (
                f"INSERT INTO {table.name} ({names})"  # noqa: S608 - names of our own
                f" SELECT {names} FROM json_populate_recordset(NULL::{table.name}, %s::json)"
                " ON CONFLICT DO NOTHING"
            )
            return self.connection.exec_driver_sql(sql, (_json(columns, rows),)).rowcount
        incoming = f"incoming_{table.name}_{len(columns)}"  # some columns may be left out
        like = f"SELECT {names} FROM {table.name} LIMIT 0"  # noqa: S608
        self.connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ON COMMIT DELETE ROWS AS {like}"
        )
        driver: Any = self.connection.connection.driver_connection
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY {incoming} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types([self._type_name(table.c[name]) for name in columns])
                for row in rows:
                    copy.write_row(row)
            cursor.execute(  # in the order in which they were copied
                f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {incoming}"  # noqa: S608
                " ON CONFLICT DO NOTHING"
            )
            count: int = cursor.rowcount
        return count

    def _type_name(self, column: Column[Any]) -> str:
        name = column.type.compile(self.connection.dialect).lower()
        return name.partition(" collate")[0]


@cache
def _append_sql(statement: BulkInsert) -> str:
    """Return one statement that inserts all rows or none.

    Unique values are looked for first: the database would log each that is there already as an
    error. One that comes in at the same moment still is one.
    """
    table = statement.table.name
    columns = ", ".join((statement.serial, *statement.columns))
    values = cast(bindparam("unique_values", type_=Text()), ARRAY(Text()))  # found by the index
    taken = exists().where(statement.table.c[statement.unique] == any_(values))
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    opening = statement.insert_row(statement.row.where(~taken)).compile(dialect=dialect)
    return (
        f"WITH given AS (SELECT * FROM json_populate_recordset(NULL::{table}, %(rows)s::json)),"  # noqa: S608
        f" opened AS ({opening}),"
        f" appended AS (INSERT INTO {table} ({columns})"
        f" SELECT opened.id * {statement.places} + given.{columns.replace(', ', ', given.')}"
        " FROM opened, given)"
        " SELECT * FROM opened"
    )


def _is_any(column: Column[Any], packed: BindParameter[str]) -> ColumnElement[bool]:
    element = Text() if isinstance(column.type, Text) else BigInteger()
    return column == any_(cast(packed, ARRAY(element)))


@lru_cache(STATEMENTS_KEPT)
def _where_any(statement: Select[Any] | Update, column: Column[Any]) -> Executable:
    return statement.where(_is_any(column, bindparam("values", type_=Text())))


@cache
def _count_query(column: Column[Any]) -> Select[Any]:
    condition = _is_any(column, bindparam("values", type_=Text()))
    return select(func.count()).select_from(column.table).where(condition)


@cache
def _number_query(number: Column[int], column: Column[Any]) -> Select[Any]:
    return select(column, number).where(_is_any(column, bindparam("values", type_=Text())))


def _lacks_tables(error: object) -> bool:
    return getattr(error, "sqlstate", None) in _MISSING


def _array(values: Sequence[Any]) -> str:
    """Encode numbers or texts as an array; the driver takes ten times as long."""
    if not values or not isinstance(values[0], str):
        return f"{{{','.join(map(str, values))}}}"
    escaped = [v.replace("\\", r"\\").replace('"', r"\"") for v in values]
    return "".join(['{"', '","'.join(escaped), '"}'])


def _json(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Encode rows as JSON for PostgreSQL: bytes in its own way, as text."""
    encodable = [[f"\\x{v.hex()}" if isinstance(v, bytes) else v for v in row] for row in rows]
    return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in encodable]).decode()


def _milliseconds(seconds: float) -> str:
    return str(max(round(1000 * seconds), 1))  # 0 would be none


def _limit_lock_waits(connection: Connection) -> None:
    """Limit waits for locks where less is left of them than statements wait by themselves."""
    usual = _USUAL_SHARE * LOCK_SECONDS
    seconds = waits.seconds_left(usual)
    if seconds < usual:
        connection.execute(_LIMIT_LOCKS, {"limit": _milliseconds(seconds)})


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    # Few rows are looked for in large tables, always through an index. The planner cannot estimate
    # that they are few, of a range of serials above all, and would read whole tables.
    for plan in ("seqscan", "hashjoin", "mergejoin"):
        cursor.execute(f"SET enable_{plan} = off")
    cursor.execute("SET jit = off")
    cursor.execute(f"SET lock_timeout = {_milliseconds(_USUAL_SHARE * LOCK_SECONDS)}")
    cursor.close()
    connection.commit()
