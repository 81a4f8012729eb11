"""Validation: the place of a value that does not fit a declared type, and what would fit there.

msgspec decides whether a value fits. Its messages are for people to read, and change from release
to release; so place and sentence are found here, by going through the value beside its type.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from itertools import chain
from math import isinf, isnan
from types import NoneType
from typing import Any

import msgspec
from msgspec import inspect

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer

_LARGEST = 2**1024  # what no double holds
_LEAST_MILLISECONDS = 1e11  # of a time; so many seconds are in the year 5138
_BARE: Mapping[type, Any] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
    inspect.NoneType: None,
    inspect.DateTimeType: datetime,
}
_WORDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    datetime: "a time as in RFC 3339",
    date: "a date",
    time: "a time of day",
}
_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("ge", "of at least", operator.ge),
    ("gt", "above", operator.gt),
    ("le", "of at most", operator.le),
    ("lt", "below", operator.lt),
)


def refusal(value: Any, kind: Any, *, strict: bool = True) -> InvalidInput:
    """Make the error for a value that msgspec refused to convert to a type.

    Args:
        value: as JSON, TOML or Python gave it.
        kind: the type.
        strict: as `msgspec.convert` was told.
    """
    return InvalidInput([misfit(value, kind, strict=strict) or Fault("", "is not as declared")])


def misfit(value: Any, kind: Any, *, strict: bool = True) -> Fault | None:
    """Find the first place at which a value is not of a type; None where it is.

    A number that no double holds fits nowhere, though `msgspec.convert` takes infinity as a number.
    """
    faults = _Walk(strict=strict).faults(value, inspect.type_info(kind))
    return next(chain(faults, _unbounded(value)), None)


class _Walk:
    """A walk through a value beside its type: a fault for each place that does not fit."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def faults(self, value: Any, kind: inspect.Type, description: str = "") -> Iterator[Fault]:
        match kind:
            case inspect.Metadata():
                schema = kind.extra_json_schema or {}
                yield from self.faults(value, kind.type, schema.get("description", ""))
            case inspect.UnionType():
                yield from self._union(value, kind, description)
            case _ if not self._takes(value, kind):
                yield Fault("", f"must be {_expected(kind)}, not {_described(value)}")
            case inspect.LiteralType() if value not in kind.values:
                yield Fault("", f"must be {_choices(kind.values)}, not {value!r}")
            case inspect.StructType():
                yield from self._struct(value, kind)
            case inspect.DictType():
                yield from _lengths(value, kind, "an object")
                yield from self._mapping(value, kind)
            case inspect.CollectionType():
                yield from _lengths(value, kind, "a list")
                for i, entry in enumerate(value):
                    if not self._is_struct(entry, kind.item_type):
                        yield from _below(i, self.faults(entry, kind.item_type))
            case _:
                yield from self._scalar(value, kind, description)

    def _takes(self, value: Any, kind: inspect.Type) -> bool:
        """Return True if a value is of a type, before the type's bounds and parts are checked."""
        match kind:
            case inspect.Metadata():
                return self._takes(value, kind.type)
            case inspect.LiteralType():
                return type(value) in map(type, kind.values)
            case inspect.StructType() | inspect.DictType():
                return isinstance(value, Mapping)
            case inspect.CollectionType():
                return isinstance(value, list | tuple)
            case inspect.IntType() | inspect.FloatType() if _is_huge(value):
                return True
        # No declaration of ours has anything else than these.
        return type(kind) not in _BARE or self._converted(value, kind) is not _NOTHING

    def _is_struct(self, value: Any, kind: inspect.Type) -> bool:
        """Return True for a row that fits as a struct: msgspec checks it 50 times as fast."""
        if not isinstance(kind, inspect.StructType):
            return False
        try:
            msgspec.convert(value, kind.cls, strict=self._strict)
        except (msgspec.ValidationError, InvalidInput):
            return False
        return True

    def _converted(self, value: Any, kind: inspect.Type) -> Any:
        try:
            return msgspec.convert(value, _BARE[type(kind)], strict=self._strict)
        except msgspec.ValidationError:
            return _NOTHING

    def _union(self, value: Any, kind: inspect.UnionType, description: str) -> Iterator[Fault]:
        parts = [part for part in kind.types if self._takes(value, part)]
        structs = [part for part in parts if isinstance(part, inspect.StructType)]
        if not parts:
            yield Fault("", f"must be {_expected(kind)}, not {_described(value)}")
        elif len(structs) > 1:
            yield from self._tagged(value, structs)
        else:
            faults = [next(self.faults(value, part, description), None) for part in parts]
            if None not in faults:
                yield from filter(None, faults[:1])

    def _tagged(self, value: Mapping[Any, Any], kinds: list[inspect.StructType]) -> Iterator[Fault]:
        """Go through an object that has to be one of several, which a field of it tells apart."""
        field = kinds[0].tag_field or ""
        tags = {kind.tag: kind for kind in kinds}
        tag = value.get(field)
        if field not in value:
            yield Fault(pointer(field), "is required")
        elif not any(type(tag) is type(t) for t in tags):
            expected = _expected(inspect.LiteralType(tuple(tags)))
            yield Fault(pointer(field), f"must be {expected}, not {_described(tag)}")
        elif tag not in tags:
            yield Fault(pointer(field), f"must be {_choices(tags)}, not {tag!r}")
        else:
            yield from self._struct(value, tags[tag])

    def _struct(self, value: Mapping[Any, Any], kind: inspect.StructType) -> Iterator[Fault]:
        fields = {field.encode_name: field for field in kind.fields}
        tag = {} if kind.tag_field is None else {kind.tag_field: inspect.LiteralType((kind.tag,))}
        for name, part in value.items():
            if name in fields:
                yield from _below(name, self.faults(part, fields[name].type))
            elif name in tag:
                yield from _below(name, self.faults(part, tag[name]))
            elif kind.forbid_unknown_fields:
                names = ", ".join([*tag, *fields])
                detail = f"known are {names}" if names else "none is taken"
                yield Fault(pointer(name), f"unknown field; {detail}")
        for name, field in fields.items():
            if field.required and name not in value:
                yield Fault(pointer(name), "is required")

    def _mapping(self, value: Mapping[Any, Any], kind: inspect.DictType) -> Iterator[Fault]:
        for name, part in value.items():
            for fault in self.faults(name, kind.key_type):
                yield Fault(pointer(name), f"as a name {fault.detail}")
            yield from _below(name, self.faults(part, kind.value_type))

    def _scalar(self, value: Any, kind: inspect.Type, description: str) -> Iterator[Fault]:
        if _is_huge(value):
            yield Fault("", "must be a finite number")
            return
        match kind:
            case inspect.StrType():
                if kind.pattern is not None and re.search(kind.pattern, value) is None:
                    yield Fault("", f"must be {description or f'text matching {kind.pattern!r}'}")
                yield from _lengths(value, kind, "text")
            case inspect.IntType() | inspect.FloatType():
                yield from _bounds(self._converted(value, kind), kind)
            case inspect.DateTimeType(tz=bool(has_zone)):
                if has_zone != (self._converted(value, kind).tzinfo is not None):
                    zone = "with" if has_zone else "without"
                    yield Fault("", f"must be a time as in RFC 3339 {zone} a timezone component")


_NOTHING = object()


def _below(step: str | int, faults: Iterator[Fault]) -> Iterator[Fault]:
    for fault in faults:
        yield Fault(pointer(step) + fault.pointer, fault.detail)


def _unbounded(value: Any) -> Iterator[Fault]:
    """Find the numbers that no double holds in a value of any type."""
    if isinstance(value, Mapping | list | tuple):
        for step, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _below(step, _unbounded(part))
    elif _is_huge(value):
        yield Fault("", "must be a finite number")


def _is_huge(value: Any) -> bool:
    """Return True for NaN, infinity, and a whole number that no double holds."""
    if isinstance(value, float):
        return isinf(value) or isnan(value)
    return isinstance(value, int) and abs(value) >= _LARGEST


def _lengths(value: Any, kind: Any, words: str) -> Iterator[Fault]:
    if kind.min_length is not None and len(value) < kind.min_length:
        yield Fault("", f"must be {words} of length at least {kind.min_length}")
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Fault("", f"must be {words} of length at most {kind.max_length}")


def _bounds(number: float, kind: inspect.IntType | inspect.FloatType) -> Iterator[Fault]:
    words = _expected(kind)
    for name, phrase, holds in _BOUNDS:
        bound = getattr(kind, name)
        if bound is not None and not holds(number, bound):
            yield Fault("", f"must be {words} {phrase} {_plain(bound)}")
    if kind.multiple_of is not None and number % kind.multiple_of:
        yield Fault("", f"must be {words} that is a multiple of {_plain(kind.multiple_of)}")


def _plain(number: float) -> str:
    """Write a bound as a person would: 1, not 1.0."""
    return repr(number).removesuffix(".0")


def _choices(values: Any) -> str:
    return " or ".join(map(repr, values))


def _described(value: Any) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _expected(kind: inspect.Type) -> str:
    """Write a type in words; null comes last."""
    match kind:
        case inspect.Metadata():
            return _expected(kind.type)
        case inspect.UnionType():
            null_last = sorted(kind.types, key=lambda part: isinstance(part, inspect.NoneType))
            return " or ".join(dict.fromkeys(map(_expected, null_last)))
        case inspect.LiteralType():
            return " or ".join(dict.fromkeys(map(_described, kind.values)))
        case inspect.StructType() | inspect.DictType():
            return "an object"
        case inspect.CollectionType():
            return "a list"
    bare = _BARE.get(type(kind))
    return _WORDS[NoneType if bare is None else bare]


def seconds_of(time: float) -> float:
    """Return a time in seconds since 1970 that is given so, or in milliseconds.

    A number of 12 digits or more is in milliseconds: as seconds it were after the year 5000.
    """
    return time / 1000 if abs(time) >= _LEAST_MILLISECONDS else time
