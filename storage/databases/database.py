"""Database and transaction: what SQLite and PostgreSQL each do for the store."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Executable,
    Select,
    Table,
    Update,
    insert,
)
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InternalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.dml import ReturningInsert

from bandits.errors import BanditsError, InvalidInput, NotUpgraded, Unavailable

T = TypeVar("T")

Row = tuple[Any, ...]
NamedRow = Any  # a row as SQLAlchemy gives it: a tuple whose columns are attributes too

# PostgreSQL's serialization_failure, deadlock_detected and foreign_key_violation: a decision that
# was looked up a moment ago has been erased.
_TO_REPEAT = ("40001", "40P01", "23503")
_READ_ONLY = "25006"  # read_only_sql_transaction
_ATTEMPTS = 5
_NONE: Mapping[str, Any] = {}
STATEMENTS_KEPT = 256  # statements that are made once, of each kind


class SerializationConflict(Unavailable):
    """Another transaction wrote the same rows; a second attempt will most likely succeed."""

    def __init__(self, reason: str = "others write the same rows at the same time") -> None:
        super().__init__(reason)


class ReadOnlyDatabase(Unavailable):
    """The database takes no writes: it is a standby, was set to read-only, or its disk is."""

    def __init__(
        self, reason: str = "the database takes no writes now: it is a standby, or read-only"
    ) -> None:
        super().__init__(reason)


class DatabaseProgress:
    """DatabaseProgress of a database: whether the work that is under way comes to an end."""

    def __init__(self) -> None:
        """Start with nothing under way."""
        self._begun: dict[object, float] = {}
        self._ended = 0.0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a piece of work while it lasts."""
        work = object()
        self._begun[work] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[work]
            self._ended = time.monotonic()

    def stalled_seconds(self) -> float:
        """Return for how long work was under way and none ended; 0 where there is none."""
        begun = min(self._begun.copy().values(), default=None)
        return 0.0 if begun is None else time.monotonic() - max(begun, self._ended)


@dataclass(frozen=True, slots=True, eq=False)
class BulkInsert:
    """Conditional insert of one row, and of rows of another table that are numbered in it.

    Attributes:
        into: table of the one row;
        names: its columns;
        row: query that selects the row where the condition holds, else nothing.
        returning: columns of the inserted row to return: its number, labelled ``id``, first.
        table: table of the other rows;
        serial: their column of numbers: the number of the one row times `places`, plus 0, 1, …;
        columns: their other columns;
        unique: the one of these columns in which no two rows are equal.
        places: numbers that each row of `into` has for rows of `table`.
    """

    into: Table
    names: Sequence[str]
    row: Select[*tuple[Any, ...]]
    returning: Sequence[ColumnElement[Any]]
    table: Table
    serial: str
    columns: Sequence[str]
    unique: str
    places: int

    def insert_row(
        self, row: Select[*tuple[Any, ...]] | None = None
    ) -> ReturningInsert[*tuple[Any, ...]]:
        """Return the statement that inserts the one row, selected by `row` in place of its own."""
        query = self.row if row is None else row
        return insert(self.into).from_select(self.names, query).returning(*self.returning)


class Transaction(ABC):
    """A transaction on one connection; each kind of database has a class of its own.

    Attributes:
        execute: runs a statement. One that is kept in a constant and gets its values here costs a
            tenth of one that is built anew.
    """

    def __init__(self, connection: Connection) -> None:
        """Run statements on `connection`."""
        self.connection = connection
        self.execute = connection.execute

    def fetch_plain(self, query: Executable, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; return its rows, which may be very many, as the driver gives them.

        SQLAlchemy's own rows cost three times as much. SQLite's booleans are 0 and 1 here.
        """
        result = self.connection.execute(query, values)
        rows = cast("list[Row]", result.cursor.fetchall())
        result.close()
        return rows

    def plain_portions(
        self, query: Executable, values: Mapping[str, Any], size: int
    ) -> Iterator[list[Row]]:
        """Run a statement; give its rows as `fetch_plain` does, so many at a time."""
        result = self.connection.execute(query, values)
        while rows := cast("list[Row]", result.cursor.fetchmany(size)):
            yield rows
        result.close()

    @abstractmethod
    def lock(self, name: str, *, shared: bool = False) -> None:
        """Wait until no other transaction holds the lock `name`, and hold it to the end.

        Any number of transactions may hold it at once if all of them take it `shared`.
        """

    @abstractmethod
    def is_any(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Return the condition that a column equals one of many values."""

    def execute_any(
        self,
        statement: Select[Any] | Update,
        column: Column[Any],
        values: Sequence[Any],
        parameters: Mapping[str, Any] = _NONE,
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement that is kept, where a column equals one of many values."""
        packed = {"values": self.pack(values), **parameters}
        return self.execute(self.where_any(statement, column), packed)

    @abstractmethod
    def where_any(self, statement: Select[Any] | Update, column: Column[Any]) -> Executable:
        """Return a statement where a column equals one of the values in the parameter ``values``.

        It is made once for each statement that is kept; see `pack`.
        """

    @abstractmethod
    def pack(self, values: Sequence[Any]) -> str:
        """Pack many values into the parameter ``values`` of `where_any`."""

    @abstractmethod
    def count(self, column: Column[Any], values: Sequence[Any]) -> int:
        """Count the rows whose column equals one of many distinct values."""

    @abstractmethod
    def find_numbers(
        self, number: Column[int], column: Column[Any], values: Sequence[Any]
    ) -> list[int]:
        """Return, for each of many values of a unique column, the row's number, or 0."""

    @staticmethod
    @abstractmethod
    def join_each(outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]) -> Select[Any]:
        """Select `rows`, which refer to `outer`, for each row of that, with `columns` of it behind.

        The outer table is gone through first, whatever a planner guesses of its size: it cannot
        guess how many rows the range of a batch's serials holds.
        """

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Insert rows but those that are in the table already; return how many were inserted.

        Rows must be sorted by the table's unique columns: two transactions that insert the same
        rows in different orders wait for each other for ever.
        """


class Database(Protocol):
    """A database: its connections, its transactions, and one quick way to append."""

    @property
    def engine(self) -> Engine:
        """Connections for reading."""
        ...

    @property
    def writer(self) -> Engine:
        """Connections for writing; they may be the same."""
        ...

    @property
    def progress(self) -> DatabaseProgress:
        """DatabaseProgress of the work of this process."""
        ...

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        ...

    def check_writable(self) -> None:
        """Make sure that the database takes writes, without one.

        Raises:
            ReadOnlyDatabase: it does not.
            Unavailable: it cannot be reached, or does not answer.
        """
        ...

    def reading(self, *, consistent: bool = False) -> AbstractContextManager[Transaction]:
        """Open a transaction that only reads; if `consistent`, all of it sees one moment.

        Raises:
            Unavailable: the database cannot be reached, or does not answer.
        """
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that is durable on leaving, or undone where an error leaves it.

        Raises:
            Unavailable: the database cannot be reached, is locked or full; nothing was stored.
        """
        ...

    def append(
        self, statement: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and at most a few hundred that are numbered in it, durable on return.

        Args:
            statement: tables, columns and condition.
            values: parameters of `BulkInsert.row`.
            rows: values of `BulkInsert.columns`, sorted by the unique column.

        Returns:
            The columns `BulkInsert.returning`. None where nothing was inserted: the condition does
            not hold, a row was there before, another process writes, or the connection was lost,
            which may also be after the rows were inserted.

        Raises:
            Unavailable: the database cannot be reached.
        """
        ...

    def purge(self) -> bool:
        """Remove what was deleted from the database's files as well, as far as we write these.

        Returns:
            True where that is done; False where others are in the way, so that it is done later.
        """
        ...


def write_again(database: Database, work: Callable[[Transaction], T]) -> T:
    """Do work in a transaction that writes, again where another transaction came between.

    Raises:
        SerializationConflict: others came between every time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            with database.writing() as transaction:
                return work(transaction)
        except SerializationConflict:
            continue
    with database.writing() as transaction:
        return work(transaction)


@contextmanager
def translate_errors(
    lacks_tables: Callable[[object], bool], driver_errors: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Translate errors of a database at run time into `BanditsError`.

    Args:
        lacks_tables: returns true of its driver's error where a table or a column is missing.
        driver_errors: errors that its driver raises when it is used without SQLAlchemy.

    Raises:
        NotUpgraded: a table or a column is missing.
        Unavailable: it is locked, full, gone, damaged or has no free connection.
        InvalidInput: it cannot hold a value, such as a text with NUL in PostgreSQL.
    """
    try:
        yield
    except DBAPIError as error:
        missing = lacks_tables(error.orig)
        translated = NotUpgraded(detail=error.orig) if missing else _translate(error)
        if translated is None:
            raise
        raise translated from error
    except PoolTimeoutError as error:
        raise Unavailable("every connection to the database is in use") from error
    except driver_errors as error:
        if _is_conflict(error):
            raise SerializationConflict from error
        if lacks_tables(error):
            raise NotUpgraded(detail=error) from error
        if is_read_only(error):
            raise ReadOnlyDatabase from error
        raise Unavailable(f"the database does not answer: {error}".strip()) from error


def _is_conflict(error: object) -> bool:
    return getattr(error, "sqlstate", None) in _TO_REPEAT


def is_read_only(error: object) -> bool:
    """Return True for a driver's error that says that the database takes no writes."""
    return getattr(error, "sqlstate", None) == _READ_ONLY


def _translate(error: DBAPIError) -> BanditsError | None:
    """Translate an error of the database; None where the fault is in our statement."""
    if _is_conflict(error.orig):
        return SerializationConflict()
    if is_read_only(error.orig):
        return ReadOnlyDatabase()
    if isinstance(error, DataError):
        return InvalidInput.at("", f"cannot be stored: {error.orig}")
    if isinstance(error, IntegrityError | InternalError | ProgrammingError):
        return None
    return Unavailable(f"the database does not answer: {error.orig}".strip())
