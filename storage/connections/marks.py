"""Marks: keyed hashes of names and ids in an event, by which a subject's erasure finds it.

An event that did not fit may name its recipient anywhere. So every text in it is marked, and the
subject's id and the ids of its decisions are looked for among the marks.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote, unquote_plus

import msgspec

_LONGEST = 256  # characters of a name; longer texts are no ids
_WORD = re.compile(r"[^\s\"'<>(){}\[\],;&=?/]{2,256}")

Hasher = Callable[[Sequence[str]], list[bytes]]


def normalise(name: str) -> str:
    """Return the form in which names are compared: trimmed, NFC, without case."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def marks_of(hasher: Hasher, names: Iterable[str]) -> list[bytes]:
    """Return the marks of names, each once, in the order of their bytes."""
    return sorted(hasher(sorted({normalise(name) for name in names if name.strip()})))


def marks_in(hasher: Hasher, body: bytes) -> list[bytes]:
    """Return the marks of all names in an event."""
    return marks_of(hasher, names_in(body))


def names_in(body: bytes) -> set[str]:
    """Find all that may be a name in an event: its texts and numbers, and the words of each.

    They are as they stand there: compare them as `normalise` writes them.
    """
    try:
        texts = list(_leaves(msgspec.json.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        texts = [unquote_plus(body.decode(errors="replace"))]
    names = [text for text in texts if len(text) <= _LONGEST]
    spelled = {form for text in texts for form in (text, unquote(text))}
    names += [word for text in spelled for word in _WORD.findall(text)]
    return set(names)


def _leaves(value: Any) -> Iterator[str]:
    """Yield the names, texts and numbers of a JSON value, as texts."""
    nested = [value]
    while nested:
        part = nested.pop()
        if isinstance(part, dict):
            nested += part.keys()
            nested += part.values()
        elif isinstance(part, list):
            nested += part
        elif part is not None:
            yield str(part)
