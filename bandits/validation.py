"""From msgspec's message to the place of what does not fit, and what would fit there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Meta

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import Key, pointer
from bandits.schemas import Id

Step = str | int | None  # None stands for a name that msgspec does not tell

_MESSAGE = re.compile(
    r"(?P<detail>.*?)(?: - at (?:`(?P<what>key)` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL
)
_STEP = re.compile(r"\.(?P<name>\w+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`")
_CHOICE = re.compile(r"Invalid (?:enum )?value (?P<given>.*)", re.DOTALL)
_EXPECTED = re.compile(r"Expected (?P<wanted>`[^`]*`[^,]*)(?:, got `(?P<given>.*)`)?", re.DOTALL)
_BOUND = re.compile(r" (?P<sign>[<>]=?) (?P<number>\S+)")
_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "datetime": "a time as in RFC 3339",
}


def _described(*types: Any) -> dict[str, str]:
    metas = [m for t in types for m in get_args(t) if isinstance(m, Meta)]
    return {repr(m.pattern): m.description for m in metas if m.pattern and m.description}


_PATTERNS = _described(Key, Id)


def converted(error: msgspec.ValidationError, kind: Any) -> InvalidInput:
    """Turn an error of `msgspec.convert` to `kind` into ours; names in mappings stay untold."""
    detail, steps, _ = read(error)
    return InvalidInput([fault(detail, steps, kind)])


def fault(detail: str, steps: Sequence[Step], kind: Any) -> Fault:
    """Say what is wrong at a place of something that should be of a `kind`."""
    if field := _FIELD.fullmatch(detail):
        place = joined([*steps, field["name"]])
        if field["what"] == "missing required":
            return Fault(place, "is required")
        known = [name for n in _nodes(kind, steps) for name in n.get("properties", ())]
        told = f"known are {', '.join(dict.fromkeys(known))}" if known else "none is taken"
        return Fault(place, f"unknown field; {told}")
    if choice := _CHOICE.fullmatch(detail):
        allowed = [repr(value) for value in _choices(kind, steps)]
        return Fault(joined(steps), f"must be {' or '.join(allowed)}, not {choice['given']}")
    return Fault(joined(steps), sentence(detail))


def read(error: msgspec.ValidationError) -> tuple[str, list[Step], bool]:
    """Take a message apart: what is wrong, the steps to it, and whether a name there is."""
    found = _MESSAGE.fullmatch(str(error))
    if found is None:  # a message of a form that msgspec does not have yet
        return str(error), [], False
    taken = _STEP.finditer(found["path"] or "")
    steps: list[Step] = [int(step["index"]) if step["index"] else step["name"] for step in taken]
    return found["detail"], steps, found["what"] is not None


def joined(steps: Sequence[Step]) -> str:
    """Make a pointer of the steps that are told."""
    return pointer(*(s for s in steps if s is not None))


def _nodes(kind: Any, steps: Sequence[Step]) -> list[Mapping[str, Any]]:
    """List the parts of a type's schema that may stand at a place."""
    schema = msgspec.json.schema(kind)
    nodes = list(_alternatives(schema, schema))
    for step in steps:
        part = "items" if isinstance(step, int) else "additionalProperties"
        below = [n.get("properties", {}).get(step) or n.get(part) for n in nodes]
        nodes = [a for n in below if isinstance(n, Mapping) for a in _alternatives(schema, n)]
    return nodes


def _choices(kind: Any, steps: Sequence[Step]) -> list[Any]:
    """List the values that a type allows at a place."""
    nodes = _nodes(kind, steps)
    return [value for n in nodes for value in (*n.get("enum", ()), *filter(None, [n.get("const")]))]


def _alternatives(
    schema: Mapping[str, Any], node: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Go through what a node of a schema may be, references followed."""
    if "$ref" in node:
        yield from _alternatives(schema, schema["$defs"][node["$ref"].removeprefix("#/$defs/")])
    elif "anyOf" in node:
        for part in node["anyOf"]:
            yield from _alternatives(schema, part)
    else:
        yield node


def sentence(detail: str) -> str:
    """Say "Expected `float`, got `str`" as "must be a number, not text"."""
    if detail == "Number out of range":
        return "must be a finite number"
    _, _, pattern = detail.partition(" matching regex ")
    if pattern in _PATTERNS:
        return f"must be {_PATTERNS[pattern]}"
    found = _EXPECTED.fullmatch(detail)
    if found is None:
        return detail[:1].lower() + detail[1:]
    wanted = re.sub(r"`([^`]*)`", lambda m: _words(m[1]), found["wanted"])
    wanted = re.sub(r"(?<! length) (?=>=|<=)", " of ", wanted)
    wanted = _BOUND.sub(lambda m: f" {_BOUNDS[m['sign']]} {_plain(m['number'])}", wanted)
    return f"must be {wanted}" + (f", not {_words(found['given'])}" if found["given"] else "")


def _plain(number: str) -> str:
    """Write a bound as a person would: 1, not 1.0."""
    return number.removesuffix(".0")


def _words(types: str) -> str:
    return " or ".join(_WORDS.get(t, t) for t in types.split(" | "))
