"""Form fields from declared types: label, help, bounds and default come from the declaration."""

import inspect
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct

from bandits.policy import Parameters
from bandits.registry import policies

JsonSchema = Mapping[str, Any]


class Field(Struct, frozen=True):
    """One field of a form.

    Attributes:
        kind: ``number``, ``integer``, ``boolean``, ``choice``, ``list`` or ``text``.
        requirement: the values that fit, in words; "" where any does.
        default: default as text of the field.
    """

    name: str
    label: str
    help: str
    kind: str
    requirement: str
    default: str
    choices: tuple[str, ...] = ()


class Method(Struct, frozen=True):
    """A learning method that can be chosen, and its fields."""

    name: str
    label: str
    summary: str
    detail: str
    source: str
    family: str
    contextual: bool
    timed: bool
    support: tuple[float, float]
    fields: tuple[Field, ...]


def methods() -> list[Method]:
    """List every registered policy as the form shows it."""
    return [_method(policy) for policy in policies().values()]


def _method(policy: type[Parameters]) -> Method:
    summary, _, detail = (inspect.getdoc(policy) or "").partition("\n")
    about, _, source = " ".join(detail.split()).partition("Source: ")
    schema = msgspec.json.schema(policy)
    return Method(
        policy.name,
        policy.label,
        summary,
        about.strip(),
        source,
        policy.statistic.family,
        policy.statistic.contextual,
        policy.statistic.timed,
        policy.support,
        tuple(
            _field(name, declared)
            for name, declared in schema["$defs"][policy.__name__]["properties"].items()
        ),
    )


def _field(name: str, declared: JsonSchema) -> Field:
    kind = _kind(declared)
    return Field(
        name,
        declared.get("title") or name.replace("_", " ").capitalize(),
        declared.get("description", ""),
        kind,
        requirement(declared),
        typed_text(declared.get("default")),
        tuple(str(choice) for choice in _plain(declared).get("enum", ())),
    )


def _plain(declared: JsonSchema) -> JsonSchema:
    """Return the schema without null, where null is allowed."""
    options = [o for o in declared.get("anyOf", ()) if o.get("type") != "null"]
    return options[0] if options else declared


def _kind(declared: JsonSchema) -> str:
    plain = _plain(declared)
    kinds = {"number": "number", "integer": "integer", "boolean": "boolean", "array": "list"}
    return "choice" if "enum" in plain else kinds.get(plain.get("type", ""), "text")


def typed_text(value: object) -> str:
    """Write a value as text of a field: nothing for None, 1 for 1.0."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, (list, tuple)):
        return ", ".join(typed_text(v) for v in value)
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def requirement(declared: JsonSchema, *, scale: float = 1) -> str:
    """Write the requirement of a JSON Schema: "a number from 0.1 to 100".

    Args:
        declared: the schema of one value.
        scale: factor between the typed and the declared value: 100 for percentages.
    """
    plain = _plain(declared)
    match _kind(declared):
        case "choice":
            return "one of " + ", ".join(str(c) for c in plain["enum"])
        case "list":
            item = requirement(plain.get("items", {}), scale=scale)
            most = f"up to {plain['maxItems']:,} values" if "maxItems" in plain else "values"
            return f"{most} separated by commas" + (f", each {item}" if item else "")
        case ("number" | "integer") as kind:
            noun = "a whole number" if kind == "integer" else "a number"
            return " ".join([noun, *_range(plain, scale)])
        case "boolean":
            return ""
        case _:
            longest = f"at most {plain['maxLength']} characters" if "maxLength" in plain else ""
            return str(plain.get("description", longest))


def _range(plain: JsonSchema, scale: float) -> list[str]:
    low, above = plain.get("minimum"), plain.get("exclusiveMinimum")
    high, below = plain.get("maximum"), plain.get("exclusiveMaximum")
    words = []
    if above is not None:
        words.append(f"above {_number(above * scale)}")
    if low is not None:
        words.append(f"{'from' if high is not None else 'of at least'} {_number(low * scale)}")
    if high is not None:
        to = "to" if low is not None else "and at most" if above is not None else "of at most"
        words.append(f"{to} {_number(high * scale)}")
    if below is not None:
        words.append(f"{'and ' if words else ''}below {_number(below * scale)}")
    return words


def _number(value: float) -> str:
    return f"{value:,.12g}"


def read_field(field: Field, typed: str) -> Any:
    """Convert the text of a field to a value for the declaration to check.

    Raises:
        ValueError: the text is of another kind; the message states the requirement.
    """
    typed = typed.strip()
    try:
        match field.kind:
            case "number":
                return parse_number(typed)
            case "integer":
                return int(typed)
            case "boolean":
                return typed == "yes"
            case "list":
                return [parse_number(part) for part in typed.split(",") if part.strip()]
            case _:
                return typed
    except ValueError:
        raise ValueError(f"enter {field.requirement}") from None


def parse_number(typed: str) -> float:
    """Read a number.

    Raises:
        ValueError: the text is no finite number.
    """
    value = float(typed.strip().replace("−", "-"))
    if not isfinite(value):
        raise ValueError(typed)
    return value
