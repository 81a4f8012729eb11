"""The outline of a JSON text, fast enough for bodies of ten thousand rows.

msgspec takes the last of two equal names without a word, and the standard library's hook, which
could tell, is five times slower than decoding. Counting is fast: a text whose objects hold more
names than their decoded form has a name that comes twice.
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

_SHORT = 2000  # bytes, up to which to count names is faster than to outline the text again
_NESTED = (dict, list)
_SCALARS = (StrType, FloatType, IntType, BoolType, NoneType, DateTimeType)
_REST = bytes(set(range(256)) - set(b'":{}[]'))
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1


class Outline:
    """The brackets and colons of a JSON text that stand outside its strings."""

    def __init__(self, text: bytes) -> None:
        """Read them from `text`, which may turn out not to be JSON."""
        self._text = text

    @cached_property
    def _marks(self) -> NDArray[np.uint8]:
        text = self._text
        if b"\\" in text:  # then every quote that is left opens or closes a string
            text = text.replace(rb"\\", b"").replace(rb"\"", b"")
        marks = np.frombuffer(text.translate(None, _REST), dtype=np.uint8)
        inside = np.logical_xor.accumulate(marks == ord('"'))
        found: NDArray[np.uint8] = marks[~inside]
        return found

    @property
    def names(self) -> int:
        """How many names its objects hold together."""
        return int(np.count_nonzero(self._marks == ord(":")))

    @property
    def depth(self) -> int:
        """How deep its arrays and objects are nested."""
        brackets = self._marks[self._marks != ord(":")]
        return int(np.cumsum(_STEP[brackets], dtype=np.int64).max(initial=0))

    def deeper_than(self, levels: int) -> bool:
        """Tell whether it is nested more than so deep; each level takes a bracket of its own."""
        brackets = self._text.count(b"{") + self._text.count(b"[")
        return brackets > levels and self.depth > levels


def is_lean(kind: Type) -> bool:
    """Tell whether values of a type, written as JSON, never hold more names than they came with."""
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


def refuse_repeated_names(text: bytes, outline: Outline, decoded: Any = None) -> None:
    """Refuse a valid JSON text in which an object has a name twice.

    Args:
        text: it.
        outline: of it.
        decoded: what it was decoded to, if that is of a type that `is_lean`: written again, it
            shows soonest that a long text has no name twice, but for defaults that were told.

    Raises:
        InvalidInput: at the first such name.
    """
    if decoded is not None and len(text) > _SHORT and _as_many(outline, decoded):
        return
    value = msgspec.json.decode(text)
    if len(text) <= _SHORT and text.count(b":") == _names(value):
        return  # each name has a colon, so none has gone
    if _as_many(outline, value):
        return
    place = repeated_name(text)
    if place is not None:
        raise InvalidInput([Fault(place, "comes twice in one object")])


def repeated_name(text: bytes) -> str | None:
    """Find the first name of a valid JSON text that comes twice in one object: its pointer."""
    return _repeated(json.loads(text, object_pairs_hook=_Pairs, parse_int=float))


def _as_many(outline: Outline, value: Any) -> bool:
    """Tell whether a value, written as JSON, holds as many names as a text."""
    return outline.names == Outline(msgspec.json.encode(value)).names


def _names(value: Any) -> int:
    """Count the names that a value's objects hold together; for short texts only."""
    if isinstance(value, dict):
        return len(value) + sum([_names(v) for v in value.values() if isinstance(v, _NESTED)])
    return sum([_names(v) for v in value]) if isinstance(value, list) else 0


class _Pairs(list[tuple[str, Any]]):
    """An object's names and values as they stand in the text."""


def _repeated(value: Any) -> str | None:
    """Find the first name that comes twice in one object: its pointer, or None."""
    named = isinstance(value, _Pairs)
    entries = value if named else enumerate(value) if isinstance(value, list) else ()
    seen = set()
    for name, part in entries:
        if name in seen:
            return pointer(name)
        seen.add(name)
        if (below := _repeated(part)) is not None:
            return pointer(name) + below
    return None
