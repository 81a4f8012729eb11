"""Spreadsheet child: a program that reads a workbook within limits and writes its first table.

It runs apart from the server, since a workbook of a few kilobytes may unpack to more than a machine
has: its limits end it alone. It writes a line of JSON for each row to its standard output.
"""

import datetime as dt
import resource
import sys
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from bandits.identifiers import letter_name

MAX_COLUMNS = 2_000
MAX_CELLS = 20_000_000
MAX_CELL = 32_767  # characters, as in Excel
MAX_UNPACKED = 600_000_000  # bytes
MAX_ENTRIES = 10_000  # files within the workbook
_INFLATION, _SMALL = 200, 32_000_000  # it may unpack to so many times its size, or to so much
MEMORY = 1_500_000_000  # bytes
CPU_SECONDS = 60
OUTPUT = 2_000_000_000  # bytes
REFUSED = 3  # exit status with a sentence on standard error
_HEADER_ROWS = 20  # rows among which the header is looked for
_MOST_FILLED = 100_000  # cells of merged ranges

Cell = str | float | bool | None


class SheetHead(Struct, frozen=True):
    """First line of the output.

    Attributes:
        sheet: its name.
        columns: names of the columns.
        notes: what was left out or may surprise, in sentences for a page.
    """

    sheet: str
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


class SheetRow(Struct, frozen=True, array_like=True):
    """Row of the sheet by its number, with a cell for each column."""

    line: int
    cells: tuple[Cell, ...]


class WorkbookRefusal(Exception):
    """The workbook is not read, for the reason it carries."""


def main() -> int:
    """Read the workbook on standard input; return the exit status."""
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, OUTPUT),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    try:
        _check_package()
        encoder = msgspec.json.Encoder()
        for value in _lines():
            sys.stdout.buffer.write(encoder.encode(value) + b"\n")
        sys.stdout.buffer.flush()
    except WorkbookRefusal as error:
        sys.stderr.write(str(error))
        return REFUSED
    return 0


def _check_package() -> None:
    """Refuse a file that says itself that it unpacks to too much."""
    try:
        with zipfile.ZipFile(sys.stdin.buffer) as package:
            entries = package.infolist()
    except zipfile.BadZipFile:
        raise WorkbookRefusal("is no workbook, or it is damaged") from None
    unpacked = sum(entry.file_size for entry in entries)
    size = max(1, sum(entry.compress_size for entry in entries))
    if unpacked > min(MAX_UNPACKED, max(_SMALL, _INFLATION * size)) or len(entries) > MAX_ENTRIES:
        raise WorkbookRefusal(f"unpacks from {size / 1e6:.3g} MB to {unpacked / 1e6:,.0f} MB")


def _lines() -> Iterator[SheetHead | SheetRow]:
    # The library is loaded within the limits, and only by this program.
    from python_calamine import (  # noqa: PLC0415
        CalamineError,
        CalamineWorkbook,
        PasswordError,
        SheetVisibleEnum,
    )

    sys.stdin.buffer.seek(0)
    try:
        with CalamineWorkbook.from_filelike(sys.stdin.buffer) as book:
            visible = [
                sheet.name
                for sheet in book.sheets_metadata
                if sheet.visible == SheetVisibleEnum.Visible
            ]
            names = [*visible, *(name for name in book.sheet_names if name not in visible)]
            for name in names:
                sheet = book.get_sheet_by_name(name)
                if sheet.height:
                    yield from _sheet_lines(sheet, names)
                    return
    except PasswordError:
        raise WorkbookRefusal("is protected by a password: save it without one") from None
    except CalamineError as error:
        raise WorkbookRefusal(f"is no workbook, or it is damaged ({str(error)[:200]})") from None
    raise WorkbookRefusal("is empty")


def _sheet_lines(sheet: Any, names: Sequence[str]) -> Iterator[SheetHead | SheetRow]:
    if sheet.width > MAX_COLUMNS:
        raise WorkbookRefusal(f"has {sheet.width:,} columns; at most {MAX_COLUMNS:,} are taken")
    cells = (sheet.end[0] + 1) * sheet.width
    if cells > MAX_CELLS:
        raise WorkbookRefusal(f"has {cells:,} cells; at most {MAX_CELLS:,} are taken")
    _, first_column = sheet.start
    merged, notes = _merged_cells(sheet)
    rows = enumerate(sheet.iter_rows())  # from the first row of the sheet, but not column
    head_rows = [row for _, row in zip(range(_HEADER_ROWS), rows, strict=False)]
    at = _header_place([cells for _, cells in head_rows])
    header_line, header = head_rows[at]
    if len(names) > 1:
        others = ", ".join(n for n in names if n != sheet.name)[:200]
        notes.append(f"Sheet “{sheet.name}” is read, the first with cells; not read: {others}.")
    if header_line:
        notes.append(f"The column names are in row {header_line + 1}.")
    if _pads_numbers():
        notes.append(
            "A number format of this workbook shows leading zeros, which the numbers do not"
            " have. Format such a column as text."
        )
    width = max((i for i, cell in enumerate(header) if cell != ""), default=0) + 1
    width = max(width, *(_width(cells) for _, cells in head_rows[at:]))
    columns = tuple(
        _text(cell) if cell != "" else f"Column {letter_name(first_column + i).upper()}"
        for i, cell in enumerate(header[:width])
    )
    yield SheetHead(sheet.name, columns, tuple(notes))
    for line, cells in _chained(head_rows[at + 1 :], rows):
        out = [_cell(cell) for cell in cells[:width]]
        for column, value in merged.get(line, ()):
            if column < width and out[column] is None:
                out[column] = value
        if any(cell is not None for cell in out):
            yield SheetRow(line + 1, tuple(out))


def _chained(first: Sequence[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from first
    yield from rest


def _width(cells: Sequence[Any]) -> int:
    return max((i + 1 for i, cell in enumerate(cells) if cell != ""), default=0)


def _header_place(rows: Sequence[Sequence[Any]]) -> int:
    """Find the header: the first row that has at least half as many cells as the fullest."""
    filled = [sum(cell != "" for cell in row) for row in rows]
    return next(i for i, n in enumerate(filled) if n and 2 * n >= max(filled))


def _merged_cells(sheet: Any) -> tuple[dict[int, list[tuple[int, Cell]]], list[str]]:
    """Return, by row, the cells that a merged range hides; its rows are read as a reader sees them.

    Only cells below the first are filled: a cell that is wide is one value.
    """
    ranges = [r for r in sheet.merged_cell_ranges or () if r[1][0] > r[0][0]]
    total = sum(end[0] - start[0] for start, end in ranges)
    if not ranges or total > _MOST_FILLED:
        return {}, ["Merged cells: only the first row of each has its value."] if ranges else []
    _, first_column = sheet.start
    starts: dict[int, list[tuple[int, int]]] = {start[0]: [] for start, _ in ranges}
    for start, end in ranges:
        starts[start[0]].append((start[1] - first_column, end[0]))
    merged: dict[int, list[tuple[int, Cell]]] = {}
    for line, cells in enumerate(sheet.iter_rows()):
        for column, last in starts.get(line, ()):
            if not 0 <= column < len(cells):
                continue
            for below in range(line + 1, last + 1):
                merged.setdefault(below, []).append((column, _cell(cells[column])))
    return merged, ["Merged cells: each row of them has their value."]


def _pads_numbers() -> bool:
    """Return True if a number format of the workbook pads with zeros."""
    sys.stdin.buffer.seek(0)
    try:
        with zipfile.ZipFile(sys.stdin.buffer) as package, package.open("xl/styles.xml") as file:
            styles = file.read(10_000_000)
    except (KeyError, zipfile.BadZipFile):
        return False
    formats = styles.split(b'formatCode="')[1:]
    return any(
        len(code) > 1 and set(code) == {0x30} for f in formats for code in [f.split(b'"')[0]]
    )


def _cell(value: Any) -> Cell:
    if isinstance(value, bool | float):
        return value
    text = _text(value)
    if len(text) > MAX_CELL:
        raise WorkbookRefusal(
            f"has a cell of {len(text):,} characters; at most {MAX_CELL:,} are taken"
        )
    return text or None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
