"""Identifiers that people choose: keys of experiments, slots, variants; and JSON pointers."""

from typing import Annotated

from msgspec import Meta

Key = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z",
        description="a letter or digit, then letters, digits, _ . or -; at most 64",
    ),
]


def pointer(*parts: str | int) -> str:
    """Join parts to an RFC 6901 JSON pointer, escaping what needs it."""
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def letter_name(position: int) -> str:
    """Name something by its position: a, b, …, z, aa, ab; so do spreadsheets their columns."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
