"""Write every key of a scenario file into docs/simulations.md, below its last heading.

``--check`` writes nothing and fails if the page says something else.
"""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, get_args

import msgspec

from simulations.ab_tests.procedures import PROCEDURES
from simulations.environments import KINDS
from simulations.learner_config import LearnerConfig
from simulations.learners.guarded import GuardrailRule
from simulations.learners.memory import DecisionForgetting
from simulations.learners.remaining_value import ValueRemainingRule
from simulations.running.delays import Feedback
from simulations.running.schedule import Ramp, Run

PAGE = Path(__file__).parents[2] / "docs/simulations.md"
HEADING = "## Every key\n"
INNER = {Run: "run", Ramp: "run.batches", Feedback: "run.feedback"}
WORDS = {
    "number": "number",
    "integer": "whole number",
    "string": "text",
    "boolean": "true or false",
}


def keys() -> str:
    """Write the tables."""
    worlds = {kind.__struct_config__.tag: kind for kind in get_args(KINDS)}
    parts = ["Made from the code by `make docs`; bounds in round brackets are excluded.\n"]
    parts += [section(f'environment, `kind = "{tag}"`', kind) for tag, kind in worlds.items()]
    parts += [section(f"`{place}`", kind) for kind, place in INNER.items()]
    parts.append(section("`policy`, any name", LearnerConfig))
    parts += [
        section("`policy.forgetting`", DecisionForgetting),
        section("`policy.stop`", ValueRemainingRule),
        section("`policy.guardrail`", GuardrailRule),
    ]
    parts += [section(f"`policy.params` of `{n}`", kind) for n, kind in PROCEDURES.items()]
    parts.append("\n`policy.params` of a policy are on [the policies' page](policies.md).\n")
    return "".join(parts)


def section(title: str, kind: Any) -> str:
    """Write one table."""
    schema = msgspec.json.schema(kind)
    declared = schema["$defs"][kind.__name__]
    about = (inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0]
    rows = [
        f"| `{name}` | {says(name, field, kind)} | {'; '.join(dict.fromkeys(values(field)))} | "
        f"{'required' if name in declared.get('required', ()) else written(field)} |\n"
        for name, field in declared["properties"].items()
        if name != "kind"
    ]
    head = "| key | | values | default |\n|---|---|---|---|\n"
    return f"\n### {title[:1].upper()}{title[1:]}\n\n{about}\n\n{head}{''.join(rows)}"


def says(name: str, field: Mapping[str, Any], kind: Any) -> str:
    """Tell what a key means: its description, or what the docstring says of the attribute."""
    if "description" in field:
        return str(field["description"])
    for part in field.get("anyOf", ()):
        if "description" in part:
            return str(part["description"])
    lines = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].splitlines()
    text = " ".join(line.strip() for line in lines)
    found = text.partition(f"{name}: ")[2]
    for other in msgspec.structs.fields(kind):
        found = found.partition(f" {other.name}: ")[0]
    return found.rstrip(".").replace("``", "`")


def values(field: Mapping[str, Any]) -> Iterator[str]:
    """Go through the kinds of value that a key takes."""
    if "anyOf" in field:
        for part in field["anyOf"]:
            yield from values(part)
    elif "enum" in field:
        yield " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    elif "$ref" in field:
        inner = {kind.__name__: place for kind, place in INNER.items()}
        yield f"a table, see `{inner[field['$ref'].rpartition('/')[2]]}`"
    elif field.get("type") == "array":
        inner = "; ".join(dict.fromkeys(values(field.get("items", {})))) or "anything"
        yield f"list of: {inner}"
    elif field.get("type") == "object":
        yield "a table"
    elif field.get("type") in WORDS:
        yield WORDS[field["type"]] + bounds(field)


def bounds(field: Mapping[str, Any]) -> str:
    """Write the least and the largest, if there are any."""
    ends = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    if not any(end in field for end in ends):
        return ""
    low = field.get("minimum", field.get("exclusiveMinimum", -inf))
    high = field.get("maximum", field.get("exclusiveMaximum", inf))
    left, right = "[" if "minimum" in field else "(", "]" if "maximum" in field else ")"
    return f" {left}{low:.6g}, {high:.6g}{right}".replace("inf", "∞")


def written(field: Mapping[str, Any]) -> str:
    """Write a default as TOML would; nothing where leaving it out has a meaning of its own."""
    default = field.get("default")
    return "" if default in (None, "", (), [], {}) else f"`{json.dumps(default)}`"


def page() -> str:
    """Write the page: what is written by hand, and the tables below its last heading."""
    by_hand, heading, _ = PAGE.read_text().partition(HEADING)
    return f"{by_hand}{heading}\n{keys()}"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/simulations.md is stale; run `make docs`")
