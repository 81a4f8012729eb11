"""Table files: reads CSV, its separator included, and parquet in portions; writes safe CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from bandits.csv_rows import MAX_COLUMNS, missing_column, position, whole_rows
from bandits.errors import InvalidInput

# A spreadsheet would run a cell that begins with one of these; some take the wide ones, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_AT_ONCE = 500
_NO_CELL = "is no text, number or truth value"
MAX_CELL = 32_000  # bytes of a text in a parquet file
MAX_ROW_GROUP = 2**29  # bytes, unpacked; one is held in memory at a time
_SMALL, _INFLATION = 32_000_000, 50  # a file may unpack to so much, or to so many times its size
_THRIFT_LIMITS = {"thrift_string_size_limit": 10_000_000, "thrift_container_size_limit": 100_000}


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Write rows, a few hundred at a time: a table may be larger than memory."""
    rest = iter(rows)
    while chunk := list(islice(rest, _AT_ONCE)):
        text = io.StringIO()
        csv.writer(text).writerows([_cell(value) for value in row] for row in chunk)
        yield text.getvalue()


def _cell(value: Any) -> Any:
    """Quote text that a spreadsheet would take for a formula."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


PORTION = 10_000  # as many rows as a request of the API may have

Cell = str | float | bool | None  # an int, too, as Python has it


class Portion(Struct, frozen=True, gc=False):
    """Consecutive rows of a table, by column.

    Attributes:
        first: number of rows before them.
        lines: of the file, one for each row.
        cells: by column; an empty CSV cell is None, every other one text.
    """

    first: int
    lines: Sequence[int]
    cells: Mapping[str, Sequence[Cell]]


class Table(Protocol):
    """File with a header of named columns."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, in their order."""
        ...

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        ...

    def portions(self, columns: Sequence[str], size: int = PORTION) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time.

        Raises:
            InvalidInput: a column is missing or comes twice, a row is ragged, the text is not
                UTF-8, or a cell is no text, number or truth value.
        """
        ...


def open_table(path: Path, name: str | None = None) -> Table:
    """Open a table file by the ending of its name.

    Args:
        path: of the file.
        name: of the file in messages, instead of its path.

    Raises:
        InvalidInput: it cannot be read, or its format is unknown.
    """
    file_name = str(path) if name is None else name
    kind = _KINDS.get(Path(file_name).suffix.lower())
    if kind is None:
        raise InvalidInput.at("", f"cannot read {file_name}: give it one of {', '.join(_KINDS)}")
    with _file_errors(file_name):
        table = kind(path, file_name)
    if not table.columns:
        raise InvalidInput.at("", f"{file_name}: is empty")
    return table


class CsvTable:
    """CSV file in UTF-8 whose fields are separated by commas, semicolons or tabs."""

    def __init__(self, path: Path, name: str) -> None:
        """Read the header."""
        self._path = path
        self._name = name
        with path.open(newline="", encoding="utf-8-sig") as file:
            self.columns: Sequence[str] = next(whole_rows(name, file), (0, []))[1]

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return f"{self._name}, line {line}, column {column!r}"

    def portions(self, columns: Sequence[str], size: int = PORTION) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        places = [position(self._name, self.columns, name) for name in columns]
        first, lines, rows = 0, [], []
        with (
            _file_errors(self._name),
            self._path.open(newline="", encoding="utf-8-sig") as file,
        ):
            whole = whole_rows(self._name, file)
            next(whole)
            for line, row in whole:
                lines.append(line)
                rows.append([row[at] or None for at in places])
                if len(rows) == size:
                    yield _portion(first, lines, columns, rows)
                    first, lines, rows = first + size, [], []
        if rows:
            yield _portion(first, lines, columns, rows)


def _portion(
    first: int, lines: list[int], columns: Sequence[str], rows: list[list[str | None]]
) -> Portion:
    by_column = zip(*rows, strict=True)
    return Portion(first, lines, dict(zip(columns, by_column, strict=True)))


class ParquetTable:
    """Parquet file."""

    def __init__(self, path: Path, name: str) -> None:
        """Read the schema."""
        self._path = path
        self._name = name
        with pq.ParquetFile(path, **_THRIFT_LIMITS) as file:
            if file.metadata.num_columns > MAX_COLUMNS:
                detail = f"has {file.metadata.num_columns:,} columns"
                raise InvalidInput.at("", f"{name}: {detail}; at most {MAX_COLUMNS:,} are taken")
            self.columns: Sequence[str] = file.schema_arrow.names
            _refuse_inflated(name, file.metadata, path.stat().st_size)
            schema = file.schema_arrow
            # Values that repeat are decoded once: a short file may repeat a long one for ever.
            self._texts = [f.name for f in schema if _is_text(f.type)]
            self._nested = [f.name for f in schema if pa.types.is_nested(f.type)]

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return f"{self._name}, row {line}, column {column!r}"

    def portions(self, columns: Sequence[str], size: int = PORTION) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        for name in columns:
            if name not in self.columns:
                raise missing_column(self._name, self.columns, name)
            if name in self._nested:
                raise InvalidInput.at("", f"{self.place(1, name)}: {_NO_CELL}")
        first = 0
        texts = [name for name in columns if name in self._texts]
        with (
            _file_errors(self._name),
            pq.ParquetFile(self._path, read_dictionary=texts, **_THRIFT_LIMITS) as file,
        ):
            for batch in file.iter_batches(size, columns=list(columns)):
                lines = range(first + 1, first + 1 + batch.num_rows)
                for name in texts:
                    self._refuse_long_cells(name, batch.column(name))
                values = {name: batch.column(name).to_pylist() for name in columns}
                cells = {name: self._cells(name, lines, values[name]) for name in columns}
                yield Portion(first, lines, cells)
                first += batch.num_rows

    def _refuse_long_cells(self, name: str, column: Any) -> None:
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > MAX_CELL:
            detail = f"has a cell of {longest:,} bytes; at most {MAX_CELL:,} are taken"
            raise InvalidInput.at("", f"{self._name}, column {name!r}: {detail}")

    def _cells(self, name: str, lines: Sequence[int], values: list[Any]) -> list[Cell]:
        if {str, int, float, bool, type(None)}.issuperset(map(type, values)):
            return values
        return [self._cell(name, line, v) for line, v in zip(lines, values, strict=True)]

    def _cell(self, name: str, line: int, value: Any) -> Cell:
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if isinstance(value, Decimal):
            return float(value)
        if hasattr(value, "isoformat"):  # a date or a time
            return str(value.isoformat())
        raise InvalidInput.at("", f"{self.place(line, name)}: {_NO_CELL}")


def _is_text(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_binary,
        pa.types.is_large_string,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _refuse_inflated(name: str, metadata: Any, size: int) -> None:
    """Refuse a file that unpacks to far more than it is.

    Raises:
        InvalidInput: it does.
    """
    groups = [metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups)]
    unpacked = sum(groups)
    if unpacked > max(_SMALL, _INFLATION * size) or max(groups, default=0) > MAX_ROW_GROUP:
        raise InvalidInput.at(
            "", f"{name}: unpacks from {size / 1e6:.3g} MB to {unpacked / 1e6:,.0f} MB"
        )


_KINDS: Mapping[str, type[CsvTable] | type[ParquetTable]] = {
    ".csv": CsvTable,
    ".parquet": ParquetTable,
}


@contextmanager
def _file_errors(name: str) -> Iterator[None]:
    """Raise errors of reading a file as `InvalidInput` with its name."""
    try:
        yield
    except pa.ArrowException as error:  # before OSError, which some of them also are
        raise InvalidInput.at("", f"cannot read {name}: {error}") from None
    except OSError as error:
        raise InvalidInput.at("", f"cannot read {name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidInput.at("", f"{name}: is not UTF-8 text") from None
