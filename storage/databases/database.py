"""What the store asks of a database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Result,
    Select,
    Table,
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

Row = tuple[Any, ...]
Found = Any  # a row as SQLAlchemy gives it: a tuple whose columns are attributes too

# PostgreSQL's serialization_failure, deadlock_detected and foreign_key_violation: a decision that
# was looked up a moment ago has been erased.
_TO_REPEAT = ("40001", "40P01", "23503")


class SerializationConflict(Unavailable):
    """Another transaction came between; done again at once, it will most likely work."""

    def __init__(self, reason: str = "others write the same rows at the same time") -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True, eq=False)
class BulkInsert:
    """A row that is inserted if something holds, and rows of another table that are numbered in it.

    Attributes:
        names: of the columns of the one row, which is of `into`;
        row: selects it, or nothing.
        returning: what is told of it when it is there: its number, called ``id``, first.
        table: what the others are rows of.
        numbered: their column that tells their number: that of the one times `places`, plus 0, 1, …
        columns: their other columns,
        unique: and that of those which no two rows have alike.
        places: numbers that each row of `into` has for them.
    """

    into: Table
    names: Sequence[str]
    row: Select[*tuple[Any, ...]]
    returning: Sequence[ColumnElement[Any]]
    table: Table
    numbered: str
    columns: Sequence[str]
    unique: str
    places: int

    def opening(
        self, row: Select[*tuple[Any, ...]] | None = None
    ) -> ReturningInsert[*tuple[Any, ...]]:
        """Return the statement that inserts the one row, where it is not selected otherwise."""
        chosen = self.row if row is None else row
        return insert(self.into).from_select(self.names, chosen).returning(*self.returning)


class Database(Protocol):
    """A database: how to connect to it, lock in it and write much to it."""

    @property
    def engine(self) -> Engine:
        """Its connections that read."""
        ...

    @property
    def writer(self) -> Engine:
        """Its connections that write; they may be the same."""
        ...

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        ...

    def reading(self, *, consistent: bool = False) -> AbstractContextManager["Transaction"]:
        """Open a transaction that only reads; if `consistent`, all of it sees one moment.

        Raises:
            Unavailable: the database cannot be reached, or does not answer.
        """
        ...

    def writing(self) -> AbstractContextManager["Transaction"]:
        """Open a transaction that is durable on leaving, or undone where an error leaves it.

        Raises:
            Unavailable: it cannot be reached, is locked or full; nothing was stored.
        """
        ...

    def lock(self, connection: Connection, name: str, *, shared: bool = False) -> None:
        """Wait until no other transaction holds the lock `name`, and hold it to the end.

        Any number of transactions may hold it at once if all of them take it `shared`.
        """
        ...

    def among(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Tell whether a column is one of many values."""
        ...

    def packed(self, values: Sequence[Any]) -> str:
        """Write many values as one for a statement."""
        ...

    def counting(self, column: Column[Any]) -> Select[Any]:
        """Return a statement that counts rows whose column is one of distinct, packed `values`."""
        ...

    def numbers(
        self,
        transaction: "Transaction",
        number: Column[int],
        column: Column[Any],
        values: Sequence[Any],
    ) -> list[int]:
        """Find, for each of many values, the number of the row whose unique column it is, or 0."""
        ...

    def for_each(
        self, outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]
    ) -> Select[Any]:
        """Select `rows`, which refer to `outer`, for each row of that, with `columns` of it behind.

        The outer table is gone through first, whatever a planner guesses of its size: what the
        range of a batch's serials finds, none can guess.
        """
        ...

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
    ) -> int:
        """Insert rows, leaving out those that are there before; return how many were inserted.

        Rows must be sorted by the table's unique columns: two transactions that insert the same
        rows in different orders wait for each other for ever.
        """
        ...

    def append(
        self, appending: BulkInsert, values: Mapping[str, Any], rows: Sequence[Row]
    ) -> Row | None:
        """Insert a row and at most a few hundred that are numbered in it, durable on return.

        Args:
            appending: which.
            values: of the parameters of `BulkInsert.row`.
            rows: values of `BulkInsert.columns`, sorted by the unique one.

        Returns:
            What is told of the one row. None where nothing was inserted: what had to hold does not,
            one of the rows was there before, another process writes, or the connection was lost,
            which may also be after they were inserted.

        Raises:
            Unavailable: the database cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction, and what its database can do in it."""

    connection: Connection
    database: Database

    def execute(
        self, query: Executable, values: Mapping[str, Any] | None = None
    ) -> Result[*tuple[Any, ...]]:
        """Run a statement, with values for its parameters.

        A statement that is kept and given its values here costs a tenth of one that is built anew.
        """
        return self.connection.execute(query, values)

    def many(self, query: Executable, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement; return its rows, which may be very many, as the driver gives them.

        SQLAlchemy's own rows cost three times as much. SQLite's booleans are 0 and 1 here.
        """
        found = self.connection.execute(query, values)
        rows = cast("list[Row]", found.cursor.fetchall())
        found.close()
        return rows

    def lock(self, name: str, *, shared: bool = False) -> None:
        """Take a lock as `Database.lock` does."""
        self.database.lock(self.connection, name, shared=shared)

    def among(self, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Tell whether a column is one of many values."""
        return self.database.among(column, values)

    def count(self, column: Column[Any], values: Sequence[Any]) -> int:
        """Count the rows of which a column is one of many distinct values."""
        packed = {"values": self.database.packed(values)}
        found: int = self.execute(self.database.counting(column), packed).scalar_one()
        return found

    def numbers(self, number: Column[int], column: Column[Any], values: Sequence[Any]) -> list[int]:
        """Find, for each of many values, the number of the row whose unique column it is, or 0."""
        return self.database.numbers(self, number, column, values)

    def for_each(
        self, outer: Table, columns: Sequence[Column[Any]], rows: Select[Any]
    ) -> Select[Any]:
        """Select rows for each row of another table as `Database.for_each` does."""
        return self.database.for_each(outer, columns, rows)

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> int:
        """Insert rows as `Database.insert` does."""
        return self.database.insert(self.connection, table, columns, rows)


@contextmanager
def translate_errors(
    lacks_tables: Callable[[object], bool], driver_errors: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what a database may fail with at run time into errors of ours.

    Args:
        lacks_tables: tells of an error of its driver whether a table or a column is missing.
        driver_errors: what its driver raises when it is used without SQLAlchemy.

    Raises:
        NotUpgraded: a table or a column is missing.
        Unavailable: it is locked, full, gone, damaged or has no free connection.
        InvalidInput: it has no room for a value, such as a text with NUL in PostgreSQL.
    """
    try:
        yield
    except DBAPIError as error:
        ours = NotUpgraded() if lacks_tables(error.orig) else _translated(error)
        if ours is None:
            raise
        raise ours from error
    except PoolTimeoutError as error:
        raise Unavailable("every connection to the database is in use") from error
    except driver_errors as error:
        if _raced(error):
            raise SerializationConflict from error
        if lacks_tables(error):
            raise NotUpgraded from error
        raise Unavailable(f"the database does not answer: {error}".strip()) from error


def _raced(error: object) -> bool:
    return getattr(error, "sqlstate", None) in _TO_REPEAT


def _translated(error: DBAPIError) -> BanditsError | None:
    """Say what an error of the database is to us, None where it is a mistake of ours."""
    if _raced(error.orig):
        return SerializationConflict()
    if isinstance(error, DataError):
        return InvalidInput.at("", f"cannot be stored: {error.orig}")
    if isinstance(error, IntegrityError | InternalError | ProgrammingError):
        return None
    return Unavailable(f"the database does not answer: {error.orig}".strip())
