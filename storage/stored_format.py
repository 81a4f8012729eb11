"""Stored formats: the number of its format before each blob and document in the database.

What a column holds is read by later versions of this program, long after the code that wrote it has
changed. So each encoded value carries the number of its format, and a version that does not know
the number says so, rather than read something else. Rows from before there were numbers have none:
that is format 0, whose content is encoded as format 1's.

A new format gets the next number where the column is declared, in `storage.schema`, and the code
that decodes the content then has to convert what it reads in an earlier one.
"""

import re
from typing import Any

from sqlalchemy import Dialect, LargeBinary, Text
from sqlalchemy.types import TypeDecorator

from bandits.errors import Unavailable

_MARK = b"\xc1"  # no MessagePack begins with it, so content without a number is recognised
_DOCUMENT = re.compile(r'\{"format":(\d+),"content":(.*)\}', re.DOTALL)


class NewerFormat(Unavailable):
    """A stored value is of a format that this version does not know, but a newer one does."""

    def __init__(self, place: str, number: int, newest: int) -> None:
        super().__init__(
            f"{place} was stored in format {number}, by a newer version of this program; this one"
            f" reads formats up to {newest}. Install the newer version again",
            retry_after_seconds=60,
        )


class FormattedBlob(TypeDecorator[bytes]):
    """Column type of encoded bytes behind the number of their format; empty bytes have none."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, place: str, number: int) -> None:
        """Write format `number`, below 256, and read it and earlier ones.

        Args:
            place: table and column, for errors.
            number: of the format.
        """
        super().__init__()
        self.place = place
        self.number = number

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - all alike
        """Put the number before the content."""
        content: bytes | None = value
        return pack_blob(content, self.number) if content else content

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - all alike
        """Take the number away.

        Raises:
            NewerFormat: it is not known.
        """
        blob: bytes | None = value
        if not blob or blob[:1] != _MARK:
            return blob
        if blob[1] > self.number:
            raise NewerFormat(self.place, blob[1], self.number)
        return blob[2:]


class FormattedJson(TypeDecorator[str]):
    """Column type of a JSON document within another: ``{"format": 1, "content": …}``."""

    impl = Text
    cache_ok = True

    def __init__(self, place: str, number: int) -> None:
        """Write format `number`, and read it and earlier ones.

        Args:
            place: table and column, for errors.
            number: of the format.
        """
        super().__init__()
        self.place = place
        self.number = number

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - all alike
        """Put the document into one with the number."""
        return None if value is None else pack_json(value, self.number)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - all alike
        """Take the document out.

        Raises:
            NewerFormat: its format is not known.
        """
        return None if value is None else unpack_json(value, self.place, self.number)


def pack_blob(content: bytes, number: int) -> bytes:
    """Put the number of its format before encoded bytes, of which there are some."""
    return _MARK + bytes([number]) + content


def pack_json(content: str, number: int) -> str:
    """Put a JSON text into one that has the number of its format."""
    return f'{{"format":{number},"content":{content}}}'


def unpack_json(text: str, place: str, newest: int) -> str:
    """Take a JSON text out of the one that has its number, where there is one.

    Raises:
        NewerFormat: the number is greater than `newest`.
    """
    document = _DOCUMENT.fullmatch(text)
    if document is None:
        return text
    number, content = document.groups()
    if int(number) > newest:
        raise NewerFormat(place, int(number), newest)
    return content
