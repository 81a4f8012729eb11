"""Rejection report: the rows of a file that were left out, with their line, the cell and why."""

from typing import IO

from webapp.files.table_files import RejectedRow, csv_lines

_HEAD = ("row", "column", "value", "reason")
_LONGEST_VALUE = 500  # characters


class RejectionReport:
    """CSV file of rejected rows, which a spreadsheet may open."""

    def __init__(self, file: IO[str]) -> None:
        """Begin the file."""
        self._file = file
        file.write("".join(csv_lines([_HEAD])))

    def __call__(self, row: RejectedRow) -> None:
        """Write a row."""
        value = row.value if len(row.value) <= _LONGEST_VALUE else f"{row.value[:_LONGEST_VALUE]}…"
        self._file.write("".join(csv_lines([(row.line, row.column, value, row.reason)])))
