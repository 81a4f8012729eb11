"""Readers of single fields of the form: a value, or a fault with the requirement."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bandits.errors import Fault
from bandits.identifiers import Key
from webapp.pages.form.fields import parse_number, requirement
from webapp.pages.form.form_model import TypedDuration, TypedMoment
from webapp.pages.formatting import UNITS

MISSING = float("nan")  # stands for a number that could not be read, never for one that was

T = TypeVar("T")


class FieldErrors:
    """Readers that collect the faults, each at the name of its field."""

    def __init__(self) -> None:
        """Start without faults."""
        self.faults: list[Fault] = []

    def add(self, field: str, detail: str) -> None:
        """Add a fault of `field`."""
        self.faults.append(Fault(field, detail))

    def key(self, field: str, typed: str) -> str:
        """Read a key."""
        typed = typed.strip()
        if not typed:
            self.add(field, "type a name, or a key")
            return typed
        return self._check(field, typed, Key, 1)

    def text(self, field: str, typed: str, owner: type[Struct], name: str) -> str:
        """Read text, as field `name` of `owner` declares it."""
        return self._check(field, typed.strip(), _field_type(owner, name), 1)

    def number(  # noqa: PLR0913 - what to read, and as what
        self,
        field: str,
        typed: str,
        owner: type[Struct],
        name: str,
        *,
        empty: T,
        scale: float = 1,
    ) -> float | T:
        """Read a number, as field `name` of `owner` declares it.

        Args:
            field: the form's field.
            typed: the text of the field.
            owner: the struct that declares it.
            name: its name there.
            empty: value of an empty field.
            scale: factor between the typed and the declared value: 100 for percentages.
        """
        if not typed.strip():
            return empty
        field_type = _field_type(owner, name)
        try:
            value = parse_number(typed) / scale
        except ValueError:
            self.add(field, f"must be {_requirement(field_type, scale)}")
            return MISSING
        return self._check(field, value, field_type, scale)

    def whole_number(self, field: str, typed: str, owner: type[Struct], name: str) -> int | None:
        """Read a whole number, as field `name` of `owner` declares it; None for an empty field."""
        if not typed.strip():
            return None
        field_type = _field_type(owner, name)
        try:
            return self._check(field, int(typed), field_type, 1)
        except ValueError:
            self.add(field, f"must be {_requirement(field_type, 1)}")
            return None

    def seconds(
        self, field: str, typed: TypedDuration, owner: type[Struct], name: str, *, empty: T
    ) -> float | T:
        """Read a duration in seconds, as field `name` of `owner` declares it."""
        if not typed.amount.strip():
            return empty
        scale = 1 / UNITS.get(typed.unit, 1)
        return self.number(f"{field}/amount", typed.amount, owner, name, empty=empty, scale=scale)

    def moment(self, field: str, typed: TypedMoment) -> datetime | None:
        """Read a date and time; None for an empty field."""
        if not typed.local.strip():
            return None
        try:
            zone = timezone(timedelta(minutes=int(typed.offset)))
            return datetime.fromisoformat(typed.local.strip()).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            self.add(f"{field}/local", "must be a date and a time, such as 2026-12-01T09:00")
            return None

    def required_number(self, field: str, typed: str) -> float:
        """Read a number of any size from a field that may not be empty."""
        try:
            return parse_number(typed)
        except ValueError:
            self.add(field, "must be a number")
            return MISSING

    def attempt(self, field: str, read: Callable[[], T], fallback: T) -> T:
        """Read with a function that raises ValueError with the requirement."""
        try:
            return read()
        except ValueError as error:
            self.add(field, str(error))
            return fallback

    def _check(self, field: str, value: T, field_type: Any, scale: float) -> T:
        try:
            msgspec.convert(value, field_type)
        except msgspec.ValidationError:
            self.add(field, f"must be {_requirement(field_type, scale)}")
        return value


def _field_type(owner: type[Struct], name: str) -> Any:
    return next(f.type for f in msgspec.structs.fields(owner) if f.name == name)


def _requirement(field_type: Any, scale: float) -> str:
    return requirement(msgspec.json.schema(field_type), scale=scale)
