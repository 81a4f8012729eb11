"""Lines of CSV that a spreadsheet can open without running what is in them."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

# A spreadsheet would run a cell that starts so; the wide ones are the same to some of them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_AT_ONCE = 500


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Write rows, some at a time: a table may be larger than memory."""
    every = iter(rows)
    while some := list(islice(every, _AT_ONCE)):
        text = io.StringIO()
        csv.writer(text).writerows([_cell(value) for value in row] for row in some)
        yield text.getvalue()


def _cell(value: Any) -> Any:
    """Keep text that a spreadsheet would take for a formula from being one."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
