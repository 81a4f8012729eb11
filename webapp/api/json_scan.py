"""JSON scan: depth and repeated names of a text, fast enough for bodies of ten thousand rows.

msgspec silently takes the last of two equal names, and the standard library's hook, which sees
both, is five times slower than decoding. Counting is fast: a text whose objects hold more names
than their decoded form has a name that comes twice.
"""

import json
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from msgspec import NODEFAULT
from msgspec.inspect import (
    BoolType,
    DateTimeType,
    DictType,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
)
from numpy.typing import NDArray

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer

_SCALARS = (StrType, FloatType, IntType, BoolType, NoneType, DateTimeType, LiteralType)
_REST = bytes(set(range(256)) - set(b'":{}[]'))
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1


class Outline:
    """The brackets and colons of a JSON text that stand outside its strings."""

    def __init__(self, text: bytes) -> None:
        """Outline `text`, which need not be JSON."""
        self._text = text

    @cached_property
    def _marks(self) -> NDArray[np.uint8]:
        text = self._text
        if b"\\" in text:  # then every quote that is left opens or closes a string
            text = text.replace(rb"\\", b"").replace(rb"\"", b"")
        marks = np.frombuffer(text.translate(None, _REST), dtype=np.uint8)
        inside = np.logical_xor.accumulate(marks == ord('"'))
        outside: NDArray[np.uint8] = marks[~inside]
        return outside

    @property
    def names(self) -> int:
        """Number of names that its objects hold together."""
        return int(np.count_nonzero(self._marks == ord(":")))

    @property
    def depth(self) -> int:
        """Number of levels of its arrays and objects."""
        brackets = self._marks[self._marks != ord(":")]
        return int(np.cumsum(_STEP[brackets], dtype=np.int64).max(initial=0))


def is_lean(kind: Type) -> bool:
    """Return True if a value of this type, encoded again, never holds more names than its text."""
    match kind:
        case StructType():
            lean = kind.cls.__struct_config__.omit_defaults
            return all(
                (f.required or (lean and f.default is not NODEFAULT)) and is_lean(f.type)
                for f in kind.fields
            )
        case Metadata():
            return is_lean(kind.type)
        case UnionType():
            return all(map(is_lean, kind.types))
        case ListType():
            return is_lean(kind.item_type)
        case DictType():
            return is_lean(kind.key_type) and is_lean(kind.value_type)
    return isinstance(kind, _SCALARS)


def refuse_repeated_names(text: bytes, decoded: Any = None) -> None:
    """Refuse a valid JSON text in which an object has a name twice.

    Args:
        text: of the body.
        decoded: the text as a value of a type that `is_lean`, if it is one. To encode it again is
            the fastest check; it fails for a text without such a name only if that has defaults.

    Raises:
        InvalidInput: at the first such name.
    """
    names = Outline(text).names
    if decoded is not None and names == _count_encoded(decoded):
        return
    if names == _count_encoded(msgspec.json.decode(text)):
        return
    place = repeated_name(text)
    if place is not None:
        raise InvalidInput([Fault(place, "comes twice in one object")])


def is_unambiguous(text: bytes) -> bool:
    """Return True if a text is JSON whose objects have each name once, and numbers fit a double."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return Outline(text).names == _count_encoded(value)


def repeated_name(text: bytes) -> str | None:
    """Return the pointer of the first name of a JSON text that comes twice in one object."""
    return _repeated(json.loads(text, object_pairs_hook=_NamePairs, parse_int=float))


def _count_encoded(value: Any) -> int:
    """Count the names of a value that is encoded as JSON."""
    return Outline(msgspec.json.encode(value)).names


class _NamePairs(list[tuple[str, Any]]):
    """An object's names and values in the order of the text."""


def _repeated(value: Any) -> str | None:
    """Return the pointer of the first name that comes twice in one object, or None."""
    named = isinstance(value, _NamePairs)
    entries = value if named else enumerate(value) if isinstance(value, list) else ()
    seen = set()
    for name, part in entries:
        if name in seen:
            return pointer(name)
        seen.add(name)
        if (below := _repeated(part)) is not None:
            return pointer(name) + below
    return None
