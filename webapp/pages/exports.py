"""Tables as CSV files that a spreadsheet can open without running what is in them."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from flask import Response

# A spreadsheet would run a cell that starts so; the wide ones are the same to some of them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """Answer a file of this name, written row by row while it is sent."""
    response = Response(csv_lines(head, rows), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def csv_lines(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Write a table line by line, its head first."""
    text = io.StringIO()
    writer = csv.writer(text)
    for row in chain((head,), rows):
        writer.writerow([guarded(value) for value in row])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def guarded(value: Any) -> Any:
    """Keep text that a spreadsheet would take for a formula from being one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
