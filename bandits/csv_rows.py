"""CSV rows for all readers of CSV files: their separator, whole rows, and positions of columns."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TextIO

from bandits.errors import InvalidInput

MAX_COLUMNS = 2_000
MAX_HEADER = 200_000  # characters
MAX_RECORD = 1_000_000  # characters of a row over several lines; a quote without an end is longer
_USUAL = ",;\t|"  # the first of them wins a tie
_SAMPLE_LINES = 50
_SAMPLE_CHARACTERS = 1_000_000
_MOST_READ_AGAIN = 200 * MAX_RECORD
_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n?", re.IGNORECASE)

BadRow = Callable[[int, str], object]  # takes the line of a row that is none, and the reason


def whole_rows(
    name: str | Path, file: TextIO, bad: BadRow | None = None, delimiter: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield each row, the header first, with its line; blank lines are left out.

    Fields are separated by what a first line `sep=;` names, else by the sign that splits the first
    rows most evenly, quoted fields apart.

    Args:
        name: of the file, in messages.
        file: at its beginning.
        bad: is called for each row that is none, which is then left out.
        delimiter: separates fields, instead of what the file itself suggests.

    Raises:
        InvalidInput: the header is too long; or, without `bad`, a row has more or fewer fields
            than the header, or a quote has no end.
    """
    first = file.readline(MAX_HEADER + 1)
    if len(first) > MAX_HEADER:
        raise InvalidInput.at("", f"{name}, line 1: is longer than {MAX_HEADER:,} characters")
    named = _SEPARATOR_LINE.fullmatch(first)
    if not named:
        file.seek(0)
    sample = islice(file, _SAMPLE_LINES)
    delimiter = delimiter or (named and named[1]) or _likely_delimiter(_limited(sample))
    file.seek(0)
    lines = _Lines(name, file)
    if named:
        next(lines)
    width = None
    for line, row, fault in _records(lines, delimiter):
        if fault is None and row and len(row) == (width or len(row)):
            if width is None and len(row) > MAX_COLUMNS:
                detail = f"has {len(row):,} columns; at most {MAX_COLUMNS:,} are taken"
                raise InvalidInput.at("", f"{name}, line {line}: {detail}")
            width = len(row)
            yield line, row
        elif fault is not None or row:
            reason = fault or f"has {len(row)} fields, the header has {width}"
            if bad is None or width is None:
                raise InvalidInput.at("", f"{name}, line {line}: {reason}")
            bad(line, reason)


class _Lines:
    """Lines of a file that may be read again, from the beginning of the row at hand."""

    def __init__(self, name: str | Path, file: TextIO) -> None:
        self._name = name
        self._file = file
        self._again: list[str] = []  # lines to read before the file goes on, the last one first
        self._row: list[str] = []  # lines of the row at hand
        self._length = 0
        self._read_again = 0  # characters
        self.number = 0  # of the line that was read last

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._length > MAX_RECORD:
            raise csv.Error(f"is longer than {MAX_RECORD:,} characters: a quote has no end")
        line = self._again.pop() if self._again else next(self._file)
        self._row.append(line)
        self._length += len(line)
        self.number += 1
        return line

    def begin_row(self) -> None:
        self._row.clear()
        self._length = 0

    def keep_first_line_alone(self) -> None:
        """Go back behind the first line of the row at hand."""
        self._again += reversed(self._row[1:])
        self._read_again += self._length
        if self._read_again > _MOST_READ_AGAIN:
            detail = "too many quotes have no end; is it a table at all?"
            raise InvalidInput.at("", f"{self._name}, line {self.number}: {detail}")
        self.number -= len(self._row) - 1
        self.begin_row()


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield each row with its last line and what is wrong with it.

    A row with a fault is its first line alone: what an open quote took along is read again.
    """
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.keep_first_line_alone()
            yield lines.number, [], str(error)
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
        else:
            yield lines.number, row, None
            lines.begin_row()


def _limited(lines: Iterable[str]) -> list[str]:
    out: list[str] = []
    length = 0
    for line in lines:
        length += len(line)
        if out and length > _SAMPLE_CHARACTERS:
            break
        out.append(line)
    return out


def _likely_delimiter(sample: Sequence[str]) -> str:
    """Choose the sign that splits the first row, and as many of the next ones into as many fields.

    Signs other than the usual ones count only where none of these splits the header.
    """
    header = next(filter(str.strip, sample), "")
    others = dict.fromkeys(
        c for c in header if not c.isalnum() and c not in _USUAL + "\"'_-.@ \r\n"
    )
    for candidates in (_USUAL, others):
        scores = {sign: _fit(sample, sign) for sign in candidates}
        best = max(candidates, key=scores.__getitem__, default="")
        if best and scores[best] > (0.0, 1):
            return best
    return ","


def _fit(sample: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Return the share of rows with as many fields as the first, and the number of these."""
    widths: list[int] = []
    with suppress(csv.Error):  # perhaps the sample ends within a quoted field
        widths.extend(len(r) for r in csv.reader(sample, strict=True, delimiter=delimiter) if r)
    if not widths or widths[0] == 1:
        return 0.0, 1
    return widths.count(widths[0]) / len(widths), widths[0]


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
