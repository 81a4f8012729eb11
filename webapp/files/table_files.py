"""Table files: reads CSV, workbooks and parquet in portions; writes CSV, also for spreadsheets."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from bandits.csv_rows import MAX_COLUMNS, position, whole_rows
from bandits.errors import InvalidInput
from webapp.files.spreadsheet import SheetFile
from webapp.files.text_codec import (
    ENCODINGS,
    find_encoding,
    is_undecoded,
    open_text,
    without_mark,
)

# A spreadsheet would run a cell that begins with one of these; some take the wide ones, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_AT_ONCE = 500
_NO_CELL = "is no text, number or truth value"
MAX_CELL = 32_000  # bytes of a text in a parquet file
MAX_ROW_GROUP = 2**29  # bytes, unpacked; one is held in memory at a time
_SMALL, _INFLATION = 32_000_000, 50  # a file may unpack to so much, or to so many times its size
_THRIFT_LIMITS = {"thrift_string_size_limit": 10_000_000, "thrift_container_size_limit": 100_000}


def csv_lines(rows: Iterable[Iterable[Any]], *, exact: bool = False) -> Iterator[str]:
    """Write rows, a few hundred at a time: a table may be larger than memory.

    Args:
        rows: their cells.
        exact: write text as it is, for programs; otherwise, no cell is a formula of a spreadsheet.
    """
    cell = _plain_cell if exact else _safe_cell
    rest = iter(rows)
    while chunk := list(islice(rest, _AT_ONCE)):
        text = io.StringIO()
        csv.writer(text).writerows([cell(value) for value in row] for row in chunk)
        yield text.getvalue()


def _plain_cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _safe_cell(value: Any) -> Any:
    """Quote text that a spreadsheet would take for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return _plain_cell(value)


_WORKBOOKS = (".xlsx", ".xlsm")
ENDINGS = (".csv", ".tsv", ".txt", *_WORKBOOKS, ".parquet")

PORTION = 10_000  # as many rows as a request of the API may have

Cell = str | float | bool | None  # an int, too, as Python has it


class RejectedRow(Struct, frozen=True, gc=False):
    """Row that is left out: its line, the column and the cell at fault, if it is one, and why."""

    line: int
    column: str
    value: str
    reason: str


Reject = Callable[[RejectedRow], object]


class Portion(Struct, frozen=True, gc=False):
    """Consecutive rows of a table, by column.

    Attributes:
        first: number of rows before them.
        lines: of the file, one for each row.
        cells: by column; an empty CSV cell is None, every other one text.
        whole: cells of every column of the file, in its order, where they were asked for.
    """

    first: int
    lines: Sequence[int]
    cells: Mapping[str, Sequence[Cell]]
    whole: Sequence[Sequence[Cell]] = ()


class TableFormat(Struct, frozen=True):
    """Format of a text file: its encoding, and what separates its fields; None where it is found.

    Attributes:
        encoding: a key of `ENCODINGS`.
        delimiter: one sign.
    """

    encoding: str | None = None
    delimiter: str | None = None


class Table(Protocol):
    """File with a header of named columns."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, in their order."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was left out of the file or may surprise, in sentences for a page."""
        ...

    @property
    def types(self) -> Sequence[pa.DataType]:
        """Type of each column in a file of choices."""
        ...

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        ...

    def portions(
        self,
        columns: Sequence[str],
        size: int = PORTION,
        *,
        reject: Reject | None = None,
        whole: bool = False,
    ) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time.

        Args:
            columns: their names.
            size: number of rows at a time.
            reject: takes each row that is none, which is then left out.
            whole: read the cells of all columns, too.

        Raises:
            InvalidInput: a column is missing or comes twice, or a cell is no text, number or
                truth value; or, without `reject`, a row is ragged or not in the file's encoding.
        """
        ...


def open_table(
    path: Path,
    name: str | None = None,
    table_format: TableFormat | None = None,
    *,
    cells: Path | None = None,
) -> Table:
    """Open a table file by its first bytes, if the ending of its name is that of a table.

    Args:
        path: of the file.
        name: of the file in messages, instead of its path.
        table_format: of a text file, where it is known.
        cells: keeps the cells of a workbook, which are read once.

    Raises:
        InvalidInput: it cannot be read, or its format is unknown.
        Unavailable: as many workbooks as may be at once are being read.
    """
    file_name = str(path) if name is None else name
    if Path(file_name).suffix.lower() not in ENDINGS:
        raise InvalidInput.at("", f"cannot read {file_name}: give it one of {', '.join(ENDINGS)}")
    with _file_errors(file_name):
        table = _open(path, file_name, table_format or TableFormat(), cells)
    if not table.columns:
        raise InvalidInput.at("", f"{file_name}: is empty")
    return table


def _open(path: Path, name: str, table_format: TableFormat, cells: Path | None) -> Table:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1") or Path(name).suffix.lower() == ".parquet":
        return ParquetTable(path, name)
    if head.startswith(b"PK\x03\x04"):
        return SheetTable(path, name, cells)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        detail = "is an old Excel file, or has a password: save it as .xlsx without one"
        raise InvalidInput.at("", f"{name}: {detail}")
    if Path(name).suffix.lower() in _WORKBOOKS:
        raise InvalidInput.at("", f"{name}: is no workbook: save it as .xlsx or .csv")
    return CsvTable(path, name, table_format)


class CsvTable:
    """CSV file; what separates its fields and how its text is encoded are found."""

    notes = ()

    def __init__(self, path: Path, name: str, table_format: TableFormat) -> None:
        """Read the header."""
        self._path = path
        self._name = name
        self.encoding = table_format.encoding or find_encoding(path)
        self._delimiter = table_format.delimiter
        with open_text(path, self.encoding) as file:
            header = next(whole_rows(name, file, None, self._delimiter), (0, []))[1]
        if any(map(_is_damaged, header)):
            raise InvalidInput.at("", f"{name}: is not text in {ENCODINGS[self.encoding][1]}")
        self.columns: Sequence[str] = [*map(without_mark, header[:1]), *header[1:]]
        self.types: Sequence[pa.DataType] = [pa.string()] * len(header)

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return f"{self._name}, line {line}, column {column!r}"

    def portions(
        self,
        columns: Sequence[str],
        size: int = PORTION,
        *,
        reject: Reject | None = None,
        whole: bool = False,
    ) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        places = [position(self._name, self.columns, name) for name in columns]
        bad = None if reject is None else lambda line, why: reject(RejectedRow(line, "", "", why))
        first, lines, rows = 0, [], []
        with _file_errors(self._name), open_text(self._path, self.encoding) as file:
            all_rows = whole_rows(self._name, file, bad, self._delimiter)
            next(all_rows)
            for line, row in all_rows:
                if not (text := "".join(row)).isascii() and _is_damaged(text):
                    self._refuse_damage(line, row, reject)
                    continue
                lines.append(line)
                rows.append(row)
                if len(rows) == size:
                    yield _portion(first, lines, columns, places, rows, whole=whole)
                    first, lines, rows = first + size, [], []
        if rows:
            yield _portion(first, lines, columns, places, rows, whole=whole)

    def _refuse_damage(self, line: int, row: Sequence[str], reject: Reject | None) -> None:
        column, cell = next(
            (c, v) for c, v in zip(self.columns, row, strict=True) if _is_damaged(v)
        )
        reason = f"is not text in {ENCODINGS[self.encoding][1]}"
        if reject is None:
            raise InvalidInput.at("", f"{self.place(line, column)}: {reason}")
        shown = cell.encode(errors="replace").decode()
        reject(RejectedRow(line, column, shown, reason))


def _is_damaged(text: str) -> bool:
    return "\ufffd" in text or is_undecoded(text)


def _portion(  # noqa: PLR0913 - the parts of a portion
    first: int,
    lines: list[int],
    columns: Sequence[str],
    places: Sequence[int],
    rows: Sequence[Sequence[Any]],
    *,
    whole: bool,
) -> Portion:
    by_place = list(zip(*rows, strict=True))
    cells = {
        name: [v or None for v in by_place[at]] for name, at in zip(columns, places, strict=True)
    }
    return Portion(first, lines, cells, by_place if whole else ())


class SheetTable:
    """First sheet with cells of a workbook."""

    def __init__(self, path: Path, name: str, cells: Path | None) -> None:
        """Read the workbook, or the cells that were read before."""
        self._name = name
        self._sheet = SheetFile(path, name, cells)
        self.columns: Sequence[str] = self._sheet.head.columns
        self.notes: Sequence[str] = self._sheet.head.notes
        self.types: Sequence[pa.DataType] = [pa.string()] * len(self.columns)

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return f"{self._name}, row {line}, column {column!r}"

    def portions(
        self,
        columns: Sequence[str],
        size: int = PORTION,
        *,
        reject: Reject | None = None,  # noqa: ARG002 - every row of a sheet is whole
        whole: bool = False,
    ) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        places = [position(self._name, self.columns, name) for name in columns]
        rows = iter(self._sheet.rows())
        first = 0
        while chunk := list(islice(rows, size)):
            by_place = list(zip(*(row.cells for row in chunk), strict=True))
            cells = {name: by_place[at] for name, at in zip(columns, places, strict=True)}
            yield Portion(first, [row.line for row in chunk], cells, by_place if whole else ())
            first += len(chunk)


class ParquetTable:
    """Parquet file."""

    notes = ()

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
            self.types: Sequence[pa.DataType] = [
                f.type if _is_plain(f.type) else pa.string() for f in schema
            ]
            # Values that repeat are decoded once: a short file may repeat a long one for ever.
            self._texts = [f.name for f in schema if _is_text(f.type)]
            self._nested = [f.name for f in schema if pa.types.is_nested(f.type)]

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return f"{self._name}, row {line}, column {column!r}"

    def portions(
        self,
        columns: Sequence[str],
        size: int = PORTION,
        *,
        reject: Reject | None = None,  # noqa: ARG002 - every row of a parquet file is whole
        whole: bool = False,
    ) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        for name in columns:
            position(self._name, self.columns, name)
            if name in self._nested:
                raise InvalidInput.at("", f"{self.place(1, name)}: {_NO_CELL}")
        names = list(columns)
        if whole:
            names = [n for n in dict.fromkeys(self.columns) if n not in self._nested]
        twins = {name for name in self.columns if self.columns.count(name) > 1}
        first = 0
        with (
            _file_errors(self._name),
            pq.ParquetFile(
                self._path,
                read_dictionary=[n for n in names if n in self._texts and n not in twins],
                **_THRIFT_LIMITS,
            ) as file,
        ):
            for batch in file.iter_batches(size, columns=names):
                lines = range(first + 1, first + 1 + batch.num_rows)
                by_place: list[Sequence[Cell]] = []
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    if name in self._texts:
                        self._refuse_long_cells(name, column)
                    by_place.append(self._cells(name, lines, column.to_pylist()))
                cells = {name: by_place[batch.schema.names.index(name)] for name in columns}
                yield Portion(first, lines, cells, self._whole(batch, by_place) if whole else ())
                first += batch.num_rows

    def _whole(self, batch: Any, by_place: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
        """Return the cells of every column, empty where it is nested."""
        rest = iter(by_place)
        empty = [None] * batch.num_rows
        return [empty if name in self._nested else next(rest) for name in self.columns]

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


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return any(test(kind) for test in tests)


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


@contextmanager
def _file_errors(name: str) -> Iterator[None]:
    """Raise errors of reading a file as `InvalidInput` with its name."""
    try:
        yield
    except pa.ArrowException as error:  # before OSError, which some of them also are
        raise InvalidInput.at("", f"cannot read {name}: {error}") from None
    except OSError as error:
        raise InvalidInput.at("", f"cannot read {name}: {error.strerror or error}") from None
