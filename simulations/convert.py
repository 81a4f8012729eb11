"""Conversion of untyped values to typed ones, with every fault at its place."""

from collections.abc import Iterator
from math import isfinite
from typing import Any, TypeVar

import msgspec

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.validation import refusal

T = TypeVar("T")


def convert_value(kind: type[T], value: Any) -> T:
    """Convert a value read from TOML or JSON to a type.

    Raises:
        InvalidInput: at the JSON pointer of each value that does not fit.
    """
    if unbounded := list(_non_finite(value)):
        raise InvalidInput(Fault(place, "must be a finite number") for place in unbounded)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise refusal(value, kind) from None


def _non_finite(value: Any) -> Iterator[str]:
    """Find NaN and infinity, which TOML can write and no parameter takes."""
    if isinstance(value, float) and not isfinite(value):
        yield ""
    inner = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else inner:
        yield from (pointer(key) + place for place in _non_finite(part))
