"""OpenAPI 3.1 document, assembled from the declarations that also serve the requests."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import Struct

from bandits.features import CategoryFeature, NumberFeature, Scalar
from bandits.identifiers import Key
from bandits.inference.intervals import Finding
from bandits.registry import policies
from bandits.schemas import Decision, Id, SubjectId
from webapp.api.operation import PART, RATE_MEANINGS, Operation
from webapp.api.problems import MEDIA_TYPE, ProblemDetails, ProblemType

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_PARTS: dict[str, Any] = {"key": Key, "decision_id": Id, "subject_id": SubjectId, "int": int}
_ALWAYS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w|\Z)", re.MULTILINE | re.DOTALL)
# Names of types that msgspec has no name for, so that a generator does not make one up.
_UNIONS: Mapping[str, Any] = {
    "Finding": Finding,
    "Feature": NumberFeature | CategoryFeature,
    "ContextValue": Scalar,
    "DecisionOrNull": Decision | None,
}
# Fields that are required though their struct has an empty text for them: see `Reward`.
_REQUIRED: Mapping[str, Sequence[str]] = {"Reward": ("event_id", "metric")}
# Times that may be numbers: `webapp.api.rewards` makes texts of them before they are decoded.
_TIMES: Mapping[str, Sequence[str]] = {"Reward": ("occurred_at", "as_of")}
_TIME: Json = {
    "title": "EventTime",
    "description": "a time as in RFC 3339, or a number in the `time_unit` of the request",
    "oneOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
}


def openapi(operations: Iterable[tuple[str, Operation]], *, server: str = "/") -> Json:
    """Describe operations, each below a prefix, of the API below the address `server`."""
    every = list(operations)
    schemas = _SchemaRegistry([operation for _, operation in every])
    paths: dict[str, Json] = {}
    for prefix, operation in every:
        path = prefix + PART.sub(r"{\g<name>}", operation.path)
        described = _describe(operation, schemas)
        for status in operation.answers:
            if links := _links(operation, [o for _, o in every]):
                described["responses"][str(status)]["links"] = links
        paths.setdefault(path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Email bandits",
            "version": version("email-bandits"),
            "description": "Choose the email for each recipient, and report what became of it.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server, "description": "The server that this document was read from"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, as `bandits key create` prints it.",
                }
            },
        },
    }


class _SchemaRegistry:
    """JSON Schemas of every type in requests and responses of operations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types: list[Any] = [ProblemDetails]
        for operation in operations:
            types += [t for t in operation.answers.values() if t is not None]
            types += [] if operation.body is None else [operation.body.content]
        queries = [o.query for o in operations]
        parts = list(_PARTS.values())
        parameters = list(policies().values())
        every = [*types, *queries, *parts, *parameters, *_UNIONS.values()]
        schemas, components = msgspec.json.schema_components(every, ref_template=_REFERENCE)
        unions = dict(zip(_UNIONS, schemas[-len(_UNIONS) :], strict=True))
        self._by_type = {
            repr(t): _portable(_named(s, unions)) for t, s in zip(every, schemas, strict=True)
        }
        self.components: Json = _portable(_named(components, unions))
        self._queries = {q: self.components.pop(q.__name__) for q in set(queries)}
        for component in self.components.values():
            _describe_properties(component)
        for name, required in _REQUIRED.items():
            _require(self.components[name], required)
        for name, times in _TIMES.items():
            _take_numbers(self.components[name], times)
        self.components |= {n: _exclusive(n, _portable(s)) for n, s in unions.items()}
        self.components[_TIME["title"]] = _TIME
        self.components["PolicyChoice"] = self._policy_choice(self.components["PolicyChoice"])

    def schema(self, kind: Any) -> Json:
        """Return the schema of a type."""
        schema: Json = self._by_type[repr(kind)]
        return schema

    def query(self, kind: type[Struct]) -> Mapping[str, Json]:
        """Return the schemas of a query's parameters."""
        properties: Mapping[str, Json] = self._queries[kind]["properties"]
        return properties

    def _policy_choice(self, declared: Json) -> Json:
        """Describe the choice of each registered policy, with its parameters."""
        references = {}
        for name, policy in policies().items():
            component = f"{policy.__name__}Choice"
            references[name] = _REFERENCE.format(name=component)
            self.components[component] = {
                "title": component,
                "description": policy.label,
                "type": "object",
                "properties": {
                    "name": {"type": "string", "enum": [name]},
                    "params": self.schema(policy),
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        return {
            "title": declared["title"],
            "description": declared["description"],
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "name", "mapping": references},
        }


def _exclusive(name: str, union: Json) -> Json:
    """Name a union, and say that a value is of exactly one of its parts."""
    rest = {k: v for k, v in union.items() if k != "anyOf"}
    return {"title": name, "oneOf": union["anyOf"], **rest}


def _describe_properties(component: Json) -> None:
    """Move what a docstring says of attributes to the properties themselves."""
    meaning, _, attributes = component.get("description", "").partition("\n\nAttributes:\n")
    if not attributes:
        return
    component["description"] = meaning
    for name, text in _ATTRIBUTE.findall(attributes):
        schema = component["properties"].get(name, {"$ref": ""})
        if "$ref" not in schema:
            form = f" ({schema['description']})" if "description" in schema else ""
            schema["description"] = " ".join(text.split()) + form


def _require(component: Json, names: Sequence[str]) -> None:
    """Require properties; an empty text stands for none, so it is nobody's default."""
    component["required"] = list(names)
    for schema in component["properties"].values():
        if schema.get("default") == "":
            del schema["default"]


def _take_numbers(component: Json, names: Sequence[str]) -> None:
    """Declare that times which may be null may also be numbers."""
    time = {"$ref": _REFERENCE.format(name=_TIME["title"])}
    for name in names:
        described = component["properties"][name]
        component["properties"][name] = {
            "anyOf": [time, {"type": "null"}],
            "description": described["description"],
        }


def _named(schema: Any, unions: Mapping[str, Json]) -> Any:
    """Refer to unions by their names wherever they stand in a schema."""
    for name, union in unions.items():
        if schema == union:
            return {"$ref": _REFERENCE.format(name=name)}
    if isinstance(schema, dict):
        return {k: _named(v, unions) for k, v in schema.items()}
    return [_named(s, unions) for s in schema] if isinstance(schema, list) else schema


def _portable(schema: Any) -> Any:
    r"""Write a schema so that other languages' tools read it.

    Patterns are as ECMA 262 has them, where Python's ``\Z`` is ``$``; texts that are listed have a
    type; what may be null has two types rather than two schemas, and no null for its default.
    """
    if isinstance(schema, list):
        return [_portable(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _portable(part) for name, part in schema.items()}
    if isinstance(pattern := plain.get("pattern"), str):
        plain["pattern"] = pattern.replace(r"\Z", "$")
    if "type" not in plain and all(isinstance(v, str) for v in plain.get("enum", [None])):
        plain["type"] = "string"
    match plain.get("anyOf"):
        case [{"type": str(kind), **rest}, {"type": "null"}]:
            del plain["anyOf"]
            plain = {**rest, **plain, "type": [kind, "null"]}
            if words := plain.get("enum"):
                plain["enum"] = [*words, None]
    if plain.get("default", "") is None:
        del plain["default"]
    return plain


def _describe(operation: Operation, schemas: _SchemaRegistry) -> Json:
    summary, _, rest = cleandoc(operation.handler.__doc__ or "").partition("\n\n")
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
        "description": rest or summary,
        "security": [] if operation.scope is None else [{"key": [operation.scope]}],
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, schemas),
    }
    if operation.deprecated:
        described["deprecated"] = True
    if operation.body is not None:
        media: Json = {"schema": schemas.schema(operation.body.content)}
        if operation.body.example is not None:
            media["example"] = operation.body.example
        content = dict.fromkeys(operation.body.media_types, media)
        described["requestBody"] = {
            "required": not operation.body.optional,
            "content": content,
        }
    return described


def _parameters(operation: Operation, schemas: _SchemaRegistry) -> list[Json]:
    parameters = [
        {"name": p["name"], "in": "path", "required": True, "schema": _part(p, schemas)}
        for p in PART.finditer(operation.path)
    ]
    for name, schema in schemas.query(operation.query).items():
        described = {k: v for k, v in schema.items() if k != "description"}
        meaning = schema.get("description", "")
        parameters.append(
            {"name": name, "in": "query", "description": meaning, "schema": described}
        )
    for name, meaning in operation.takes.items():
        header = {"name": name, "in": "header", "required": True, "description": meaning}
        parameters.append({**header, "schema": {"type": "string"}})
    if operation.idempotent:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "the same key with the same request, within a day, gets the same"
                " answer",
                "schema": schemas.schema(Id),
            }
        )
    return parameters


def _part(part: re.Match[str], schemas: _SchemaRegistry) -> Json:
    schema = schemas.schema(_PARTS[part["converter"]])
    return {**schema, "minimum": 0} if part["converter"] == "int" else schema


def _responses(operation: Operation, schemas: _SchemaRegistry) -> Json:
    responses: Json = {}
    rates = {} if operation.scope is None else RATE_MEANINGS
    for status, kind in operation.answers.items():
        headers = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in {**operation.every_header, **rates}.items()
        }
        responses[str(status)] = {"description": _description(kind), "headers": headers}
        if kind is not None:
            content = {operation.media_type: {"schema": schemas.schema(kind)}}
            responses[str(status)]["content"] = content
    for problem in operation.problems:
        _add_problem(responses, problem, schemas)
    return responses


def _add_problem(responses: Json, problem: ProblemType, schemas: _SchemaRegistry) -> None:
    status = str(problem.status)
    line = f"`{problem.uri}`: {problem.title}"
    if status in responses:
        responses[status]["description"] += f"; {line}"
        return
    responses[status] = {
        "description": line,
        "content": {MEDIA_TYPE: {"schema": schemas.schema(ProblemDetails)}},
    }
    if header := _ALWAYS.get(problem.status):
        responses[status]["headers"] = {header: {"required": True, "schema": {"type": "string"}}}


def _links(operation: Operation, every: Sequence[Operation]) -> Json:
    """Return links to the operations whose paths hold parts of this one's responses."""
    links: Json = {}
    for other in every:
        for part in PART.finditer(other.path):
            if source := operation.gives.get(part["name"]):
                parameters = {part["name"]: source}
                links[other.name] = {"operationId": other.name, "parameters": parameters}
    return links


def _description(kind: Any) -> str:
    if kind is None:
        return "Done; there is nothing to say"
    return cleandoc(kind.__doc__ or "").partition("\n")[0] if isinstance(kind, type) else "Content"
