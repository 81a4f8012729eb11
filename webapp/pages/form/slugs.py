"""Keys made from names, for people who would rather not think of one."""

import re
import unicodedata
from collections.abc import Collection

_LENGTH = 60  # leaves room for a number at the end of a key of 64


def slug(name: str, *, join: str = "-") -> str:
    """Turn a name into a key: "Été à –10 %" becomes "ete-a-10"; "" where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return join.join(re.findall(r"[a-z0-9]+", plain))[:_LENGTH].strip("-_")


def unused(key: str, taken: Collection[str], *, join: str = "-") -> str:
    """Return `key`, or with the first number after it that is not taken."""
    n = 2
    made = key
    while made in taken:
        made = f"{key}{join}{n}"
        n += 1
    return made


def letter(position: int) -> str:
    """Name a variant by its position: a, b, …, z, aa, ab."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
