"""CSV rows for all readers of CSV files: whole rows only, and the positions of columns."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from bandits.errors import InvalidInput

MAX_COLUMNS = 2_000
MAX_HEADER = 200_000  # characters
_DELIMITERS = ";\t"  # besides the comma, which wins a tie


def whole_rows(name: str | Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield each row, the header first, with its line; blank lines are left out.

    Fields are separated by the comma, semicolon or tab that the header has most of.

    Raises:
        InvalidInput: a row has more or fewer fields than the header, or a quote has no end.
    """
    header = file.readline(MAX_HEADER + 1)
    file.seek(0)
    if len(header) > MAX_HEADER:
        raise InvalidInput.at("", f"{name}, line 1: is longer than {MAX_HEADER:,} characters")
    delimiter = max(",", *_DELIMITERS, key=header.count)
    reader = csv.reader(file, strict=True, delimiter=delimiter)
    width = None
    try:
        for row in reader:
            if not row:
                continue
            width = width or len(row)
            if width > MAX_COLUMNS:
                detail = f"has {width:,} columns; at most {MAX_COLUMNS:,} are taken"
                raise InvalidInput.at("", f"{name}, line {reader.line_num}: {detail}")
            if len(row) != width:
                detail = f"has {len(row)} fields, the header has {width}"
                raise InvalidInput.at("", f"{name}, line {reader.line_num}: {detail}")
            yield reader.line_num, row
    except csv.Error as error:
        raise InvalidInput.at("", f"{name}, line {reader.line_num}: {error}") from None


def position(file: str | Path, header: Sequence[str], name: str) -> int:
    """Find a column of a header.

    Raises:
        InvalidInput: there is none of this name, or several.
    """
    if not header:
        raise InvalidInput.at("", f"{file}: is empty")
    count = header.count(name)
    if count == 0:
        raise missing_column(file, header, name)
    if count > 1:
        raise InvalidInput.at("", f"{file}, line 1: {count} columns are called {name!r}")
    return header.index(name)


def missing_column(file: str | Path, header: Iterable[str], name: str) -> InvalidInput:
    """Make the error for a column that is not there."""
    return InvalidInput.at("", f"{file}: no column {name!r}; columns are {', '.join(header)}")
