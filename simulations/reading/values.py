"""From untyped values to our types, with every fault at its place."""

import re
from typing import Any, TypeVar

import msgspec

from bandits.errors import Fault, InvalidInput
from bandits.keys import pointer

T = TypeVar("T")

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.?([^.\[\]]+)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)


def read(kind: type[T], value: Any) -> T:
    """Convert a value, as TOML or JSON gave it, to a type.

    Raises:
        InvalidInput: at the JSON pointer of what does not fit.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput([_fault(str(error), kind)]) from None


def _fault(message: str, kind: type) -> Fault:
    found = _PLACE.fullmatch(message)
    what, where = (found["what"], found["where"] or "") if found else (message, "")
    steps = [index or name for index, name in _STEP.findall(where)]
    if unknown := _UNKNOWN.fullmatch(what):
        known = getattr(kind, "__struct_fields__", ()) if not steps else ()
        hint = f"; known are {', '.join(known)}" if known else ""
        return Fault(pointer(*steps, unknown[1]), f"unknown key{hint}")
    if missing := _MISSING.fullmatch(what):
        return Fault(pointer(*steps, missing[1]), "is missing")
    return Fault(pointer(*steps), what[:1].lower() + what[1:])
