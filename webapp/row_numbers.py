"""Row numbers in addresses: none is larger than a database's largest."""

from typing import Any

from werkzeug.routing import IntegerConverter, Map

LARGEST = 2**63 - 1


class RowNumberConverter(IntegerConverter):
    """Converter of whole numbers; what no row can have is no address."""

    def __init__(self, url_map: Map, **options: Any) -> None:
        super().__init__(url_map, **{"max": LARGEST, **options})


def row_number(text: str) -> int:
    """Read a row number of a query.

    Raises:
        ValueError: it is none, or larger than any row's.
    """
    number = int(text)
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} is no number of a row")
    return number
