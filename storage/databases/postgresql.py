"""PostgreSQL, through psycopg 3."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
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
    Select,
    Table,
    Text,
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

from bandits.errors import InvalidInput
from storage.databases import BulkInsert, Row, Transaction, translate_errors

_FEW = 200  # rows that are sent as one JSON text sooner than copied
_MISSING = ("42P01", "42703")  # undefined_table and undefined_column
LOCK_SECONDS = 10.0  # to wait for what another transaction holds


class Postgresql:
    """A PostgreSQL database, every commit synchronised to its disk."""

    def __init__(self, url: URL) -> None:
        """Prepare to connect to `url`; nothing is connected yet.

        Raises:
            InvalidInput: psycopg is not installed.
        """
        try:
            import psycopg  # noqa: PLC0415 - an extra
        except ImportError:
            raise InvalidInput.at(
                "", "PostgreSQL needs its driver: pip install 'email-bandits[postgres]'"
            ) from None
        self.engine = create_engine(
            url,
            hide_parameters=True,  # an error that is logged tells no ids and no contexts
            connect_args={"connect_timeout": 5},
            pool_pre_ping=True,  # a restarted server is met with a new connection
            pool_size=8,
            max_overflow=24,
            pool_timeout=LOCK_SECONDS,
        )
        self._error = psycopg.Error
        self._driver_errors = (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.errors.ForeignKeyViolation,
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
        )
        self.writer = self.engine
        self._appending = threading.Lock()
        self._kept: Connection | None = None  # what `append` uses, held for good
        event.listen(self.engine, "connect", _prepare)

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        with self._appending:
            self._let_go()
        self.engine.dispose()

    @contextmanager
    def reading(self, *, consistent: bool = False) -> Iterator[Transaction]:
        """Open a transaction that only reads; if `consistent`, all of it sees one moment."""
        engine = self.engine
        if consistent:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with translate_errors(_lacks_tables, self._driver_errors), engine.begin() as connection:
            yield Transaction(connection, self)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a transaction; each of its statements sees what was committed before it."""
        with (
            translate_errors(_lacks_tables, self._driver_errors),
            self.engine.begin() as connection,
        ):
            yield Transaction(connection, self)

    def lock(self, connection: Connection, name: str, *, shared: bool = False) -> None:
        """Wait for the advisory lock `name` and hold it until the transaction ends."""
        digest = blake2b(name.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        take = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.execute(text(f"SELECT {take}(:number)"), {"number": number})

    def among(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Tell whether a column is one of many values."""
        return _among(column, literal(_array(values), Text()))

    def packed(self, values: Sequence[Any]) -> str:
        """Write many values as an array."""
        return _array(values)

    def counting(self, column: Column[Any]) -> Select[Any]:
        """Return a statement that counts rows whose column is one of distinct, packed `values`."""
        return _counting(column)

    def numbers(
        self,
        transaction: Transaction,
        number: Column[int],
        column: Column[Any],
        values: Sequence[Any],
    ) -> list[int]:
        """Find, for each of many values, the number of the row whose unique column it is, or 0."""
        packed = {"values": _array(values)}
        found: dict[Any, int] = dict(transaction.many(_numbering(number, column), packed))
        return [found.get(value, 0) for value in values]

    def for_each(
        self, outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]
    ) -> Select[Any]:
        """Join laterally; the offset keeps the planner from turning it round."""
        each = rows.offset(literal_column("0")).lateral()
        return select(*each.c, *columns).select_from(outer).join(each, true())

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
    ) -> int:
        """Insert rows, leaving out those that are there before; return how many were inserted."""
        if not rows:
            return 0
        named = ", ".join(columns)
        if len(rows) <= _FEW:
            sql = (
                f"INSERT INTO {table.name} ({named})"  # noqa: S608 - names of our own
                f" SELECT {named} FROM json_populate_recordset(NULL::{table.name}, %s::json)"
                " ON CONFLICT DO NOTHING"
            )
            return connection.exec_driver_sql(sql, (_json(columns, rows),)).rowcount
        incoming = f"incoming_{table.name}"
        like = f"SELECT {named} FROM {table.name} LIMIT 0"  # noqa: S608
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ON COMMIT DELETE ROWS AS {like}"
        )
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY {incoming} ({named}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types([self._type_name(table.c[name]) for name in columns])
                for row in rows:
                    copy.write_row(row)
            cursor.execute(  # in the order in which they were copied
                f"INSERT INTO {table.name} ({named}) SELECT {named} FROM {incoming}"  # noqa: S608
                " ON CONFLICT DO NOTHING"
            )
            count: int = cursor.rowcount
        return count

    def append(
        self, appending: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and few that are numbered in it, by one statement, or nothing."""
        numbered = [(place, *row) for place, row in enumerate(rows)]
        place = appending.columns.index(appending.unique)
        given = {
            "ids": _array([row[place] for row in rows]),
            "given": _json((appending.numbered, *appending.columns), numbered),
        }
        with self._appending:
            driver = self._appender()
            try:
                done = driver.execute(_statement(appending), {**values, **given})
                found: Row | None = done.fetchone()
            except self._error:
                if driver.closed:
                    self._let_go()
                return None
        return found

    def _appender(self) -> Any:
        """Return the driver's connection that `append` uses, each of its statements committed."""
        if self._kept is None:
            engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            with translate_errors(_lacks_tables, self._driver_errors):
                self._kept = engine.connect()
        return self._kept.connection.driver_connection

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.invalidate()
            self._kept.close()
            self._kept = None

    def _type_name(self, column: Column[Any]) -> str:
        name = column.type.compile(self.engine.dialect).lower()
        return name.partition(" collate")[0]


@cache
def _statement(appending: BulkInsert) -> str:
    """Write one statement of all, which the database does as a whole or not at all.

    Rows that bring ids of their own are looked for first: it would log each that is there already
    as an error. Where one comes in at the same moment, it is one.
    """
    table = appending.table.name
    columns = ", ".join((appending.numbered, *appending.columns))
    ids = cast(bindparam("ids", type_=Text()), ARRAY(Text()))  # each of which its index finds
    taken = exists().where(appending.table.c[appending.unique] == any_(ids))
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    opening = appending.opening(appending.row.where(~taken)).compile(dialect=dialect)
    return (
        f"WITH given AS (SELECT * FROM json_populate_recordset(NULL::{table}, %(given)s::json)),"  # noqa: S608
        f" opened AS ({opening}),"
        f" appended AS (INSERT INTO {table} ({columns})"
        f" SELECT opened.id * {appending.places} + given.{columns.replace(', ', ', given.')}"
        " FROM opened, given)"
        " SELECT * FROM opened"
    )


def _among(column: Column[Any], packed: BindParameter[str]) -> ColumnElement[bool]:
    of = Text() if isinstance(column.type, Text) else BigInteger()
    return column == any_(cast(packed, ARRAY(of)))


@cache
def _counting(column: Column[Any]) -> Select[Any]:
    mine = _among(column, bindparam("values", type_=Text()))
    return select(func.count()).select_from(column.table).where(mine)


@cache
def _numbering(number: Column[int], column: Column[Any]) -> Select[Any]:
    return select(column, number).where(_among(column, bindparam("values", type_=Text())))


def _lacks_tables(error: object) -> bool:
    return getattr(error, "sqlstate", None) in _MISSING


def _array(values: Sequence[Any]) -> str:
    """Write numbers or texts as an array; the driver takes ten times as long for each."""
    if not values or not isinstance(values[0], str):
        return f"{{{','.join(map(str, values))}}}"
    escaped = [v.replace("\\", r"\\").replace('"', r"\"") for v in values]
    return "".join(['{"', '","'.join(escaped), '"}'])


def _json(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Write rows as JSON that PostgreSQL reads them from: bytes in its own way, as text."""
    written = [[f"\\x{v.hex()}" if isinstance(v, bytes) else v for v in row] for row in rows]
    return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in written]).decode()


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    # Few rows are looked for in large tables, always through an index. That they are few is more
    # than the planner can tell, of a range of serials above all: it would read tables whole.
    for plan in ("seqscan", "hashjoin", "mergejoin"):
        cursor.execute(f"SET enable_{plan} = off")
    cursor.execute("SET jit = off")
    cursor.execute(f"SET lock_timeout = {LOCK_SECONDS * 1000:.0f}")
    cursor.close()
    connection.commit()
