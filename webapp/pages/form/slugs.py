"""Keys made from names, for fields without one."""

import re
import unicodedata
from collections.abc import Collection

_LENGTH = 60  # leaves room for a number at the end of a key of 64


def slug(name: str, *, join: str = "-") -> str:
    """Turn a name into a key: "Été à –10 %" becomes "ete-a-10"; "" where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return join.join(re.findall(r"[a-z0-9]+", plain))[:_LENGTH].strip("-_")


def unused_key(key: str, taken: Collection[str], *, join: str = "-") -> str:
    """Return `key`, or with the first number after it that is not taken."""
    candidate, n = key, 2
    while candidate in taken:
        candidate = f"{key}{join}{n}"
        n += 1
    return candidate
