"""Additive values: dataclasses whose + and − act on each field by itself."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from operator import add, attrgetter, sub
from typing import Any, Self, TypeVar

import msgspec
import numpy as np

A = TypeVar("A")

_doubles = partial(np.array, dtype=np.float64)


class _Getters(dict[type, Callable[[Any], tuple[Any, ...]]]):
    """Functions that read all fields of a dataclass of two or more, by the class."""

    def __missing__(self, kind: Any) -> Callable[[Any], tuple[Any, ...]]:
        self[kind] = attrgetter(*(f.name for f in fields(kind)))
        return self[kind]


_getters = _Getters()


def field_values(value: Any) -> tuple[Any, ...]:
    """Return the fields of an additive value, in the order of their declaration."""
    return _getters[type(value)](value)


def dump_arrays(value: Any) -> bytes:
    """Serialise an additive value of arrays."""
    return msgspec.msgpack.encode([array.tolist() for array in field_values(value)])


def load_arrays(kind: type[A], packed: bytes) -> A:
    """Read back what `dump_arrays` wrote."""
    return kind(*map(_doubles, msgspec.msgpack.decode(packed)))


class Additive:
    """Base of dataclasses of two fields or more that are added and subtracted field by field."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        values = _getters[type(self)]
        return type(self)(*map(add, values(self), values(other)))

    def __sub__(self, other: Self) -> Self:
        values = _getters[type(self)]
        return type(self)(*map(sub, values(self), values(other)))
