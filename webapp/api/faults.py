"""From msgspec's message to the place in the request and what would fit there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Meta, Raw

from bandits.errors import Fault, InvalidInput
from bandits.keys import Key, pointer
from bandits.messages import Id

Step = str | int | None  # None stands for a name that msgspec does not tell

_MESSAGE = re.compile(
    r"(?P<detail>.*?)(?: - at (?:`(?P<what>key)` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL
)
_STEP = re.compile(r"\.(?P<name>\w+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`")
_CHOICE = re.compile(r"Invalid (?:enum )?value (?P<given>.*)", re.DOTALL)
_EXPECTED = re.compile(r"Expected (?P<wanted>`[^`]*`[^,]*)(?:, got `(?P<given>.*)`)?", re.DOTALL)
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


def invalid(
    error: msgspec.ValidationError, text: bytes, decoder: msgspec.json.Decoder[Any]
) -> InvalidInput:
    """Turn `error`, which `decoder` raised on `text`, into ours."""
    detail, steps, on_name = _read(error)
    for i, step in enumerate(steps):
        if step is None:
            steps[i] = _culprit(error, text, decoder, steps[:i])
    if on_name:
        steps.append(_culprit(error, text, decoder, steps))
        detail = f"as a name {_sentence(detail)}"
        return InvalidInput([Fault(_pointer(steps), detail)])
    return InvalidInput([_fault(detail, steps, decoder.type)])


def converted(error: msgspec.ValidationError, kind: Any) -> InvalidInput:
    """Turn an error of `msgspec.convert` to `kind` into ours; names in mappings stay untold."""
    detail, steps, _ = _read(error)
    return InvalidInput([_fault(detail, steps, kind)])


def _fault(detail: str, steps: Sequence[Step], kind: Any) -> Fault:
    if field := _FIELD.fullmatch(detail):
        missing = field["what"] == "missing required"
        return Fault(
            _pointer([*steps, field["name"]]), "is required" if missing else "unknown field"
        )
    if choice := _CHOICE.fullmatch(detail):
        known = [repr(value) for value in _choices(msgspec.json.schema(kind), steps)]
        return Fault(_pointer(steps), f"must be {' or '.join(known)}, not {choice['given']}")
    return Fault(_pointer(steps), _sentence(detail))


def _read(error: msgspec.ValidationError) -> tuple[str, list[Step], bool]:
    found = _MESSAGE.fullmatch(str(error))
    if found is None:  # a message of a form that msgspec does not have yet
        return str(error), [], False
    taken = _STEP.finditer(found["path"] or "")
    steps: list[Step] = [int(step["index"]) if step["index"] else step["name"] for step in taken]
    return found["detail"], steps, found["what"] is not None


def _pointer(steps: Sequence[Step]) -> str:
    return pointer(*(s for s in steps if s is not None))


def _choices(schema: Mapping[str, Any], steps: Sequence[Step]) -> list[Any]:
    """List the values that a schema allows at a place."""
    nodes = list(_alternatives(schema, schema))
    for step in steps:
        part = "items" if isinstance(step, int) else "additionalProperties"
        below = [n.get("properties", {}).get(step) or n.get(part) for n in nodes]
        nodes = [a for n in below if isinstance(n, Mapping) for a in _alternatives(schema, n)]
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


def _sentence(detail: str) -> str:
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
    return f"must be {wanted}" + (f", not {_words(found['given'])}" if found["given"] else "")


def _words(types: str) -> str:
    return " or ".join(_WORDS.get(t, t) for t in types.split(" | "))


def _culprit(
    error: msgspec.ValidationError,
    text: bytes,
    decoder: msgspec.json.Decoder[Any],
    steps: Sequence[Step],
) -> str | None:
    """Find which name of the object at `steps` makes `decoder` refuse `text`, by leaving one."""
    wanted = _without_rows(error)
    for name, alone in _each_alone(text, steps):
        try:
            decoder.decode(alone)
        except msgspec.ValidationError as other:
            if _without_rows(other) == wanted:
                return name
    return None


def _without_rows(error: msgspec.ValidationError) -> str:
    return re.sub(r"\[\d+\]", "[]", str(error))


def _each_alone(text: bytes, steps: Sequence[Step]) -> Iterator[tuple[str, bytes]]:
    """Rewrite `text` once for each name of the object at `steps`, with that name only."""
    if not steps:
        for name, value in msgspec.json.decode(text, type=dict[str, Raw]).items():
            yield name, msgspec.json.encode({name: value})
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):  # other rows cannot matter
        row = msgspec.json.decode(text, type=list[Raw])[step]
        for name, alone in _each_alone(bytes(row), rest):
            yield name, b"[" + alone + b"]"
        return
    whole = msgspec.json.decode(text, type=dict[str, Raw])
    if step is not None:
        for name, alone in _each_alone(bytes(whole[step]), rest):
            yield name, msgspec.json.encode({**whole, step: Raw(alone)})
