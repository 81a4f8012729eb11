"""Reading single fields of the experiment form: a value, or a note of what would fit."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bandits.errors import Fault
from bandits.identifiers import Key
from webapp.pages.form.fields import number, requirement
from webapp.pages.form.form_model import TypedDuration, TypedMoment
from webapp.pages.formatting import UNITS

MISSING = float("nan")  # stands for a number that could not be read, never for one that was

T = TypeVar("T")


class FieldErrors:
    """What does not fit so far, each fault at the name of its field."""

    def __init__(self) -> None:
        """Start with nothing noted."""
        self.faults: list[Fault] = []

    def note(self, field: str, detail: str) -> None:
        """Note that `field` does not fit."""
        self.faults.append(Fault(field, detail))

    def key(self, field: str, typed: str) -> str:
        """Read a key."""
        typed = typed.strip()
        if not typed:
            self.note(field, "type a name, or a key")
            return typed
        return self._checked(field, typed, Key, 1)

    def text(self, field: str, typed: str, owner: type[Struct], name: str) -> str:
        """Read text, as field `name` of `owner` declares it."""
        return self._checked(field, typed.strip(), _declared(owner, name), 1)

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
            typed: what was typed.
            owner: what declares it.
            name: its name there.
            empty: what nothing typed means.
            scale: how much larger people type it: 100 for percentages.
        """
        if not typed.strip():
            return empty
        declared = _declared(owner, name)
        try:
            value = number(typed) / scale
        except ValueError:
            self.note(field, f"must be {_requirement(declared, scale)}")
            return MISSING
        return self._checked(field, value, declared, scale)

    def whole(self, field: str, typed: str, owner: type[Struct], name: str) -> int | None:
        """Read a whole number, as field `name` of `owner` declares it; None for nothing typed."""
        if not typed.strip():
            return None
        declared = _declared(owner, name)
        try:
            return self._checked(field, int(typed), declared, 1)
        except ValueError:
            self.note(field, f"must be {_requirement(declared, 1)}")
            return None

    def seconds(
        self, field: str, typed: TypedDuration, owner: type[Struct], name: str, *, empty: T
    ) -> float | T:
        """Read a length of time, in seconds, as field `name` of `owner` declares it."""
        if not typed.amount.strip():
            return empty
        scale = 1 / UNITS.get(typed.unit, 1)
        return self.number(f"{field}/amount", typed.amount, owner, name, empty=empty, scale=scale)

    def moment(self, field: str, typed: TypedMoment) -> datetime | None:
        """Read a date and time; None where nothing was typed."""
        if not typed.local.strip():
            return None
        try:
            zone = timezone(timedelta(minutes=int(typed.offset)))
            return datetime.fromisoformat(typed.local.strip()).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            self.note(f"{field}/local", "must be a date and a time, such as 2026-12-01T09:00")
            return None

    def needed(self, field: str, typed: str) -> float:
        """Read a number that must be there, of any size."""
        try:
            return number(typed)
        except ValueError:
            self.note(field, "must be a number")
            return MISSING

    def attempt(self, field: str, read: Callable[[], T], fallback: T) -> T:
        """Read by a function that raises ValueError with what would fit."""
        try:
            return read()
        except ValueError as error:
            self.note(field, str(error))
            return fallback

    def _checked(self, field: str, value: T, declared: Any, scale: float) -> T:
        try:
            msgspec.convert(value, declared)
        except msgspec.ValidationError:
            self.note(field, f"must be {_requirement(declared, scale)}")
        return value


def _declared(owner: type[Struct], name: str) -> Any:
    return next(f.type for f in msgspec.structs.fields(owner) if f.name == name)


def _requirement(declared: Any, scale: float) -> str:
    return requirement(msgspec.json.schema(declared), scale=scale)
