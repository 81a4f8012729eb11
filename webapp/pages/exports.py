"""Tables of pages as CSV files."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from flask import Response

from webapp.files.csv_safe import csv_lines


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """Answer a file of this name, written while it is sent."""
    lines = csv_lines(chain((head,), rows))
    response = Response(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
