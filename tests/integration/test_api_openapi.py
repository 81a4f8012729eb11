"""The OpenAPI document: it describes what is served, from the same declarations."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jsonschema_rs
import msgspec
import pytest
from msgspec import Meta

from bandits import registry
from bandits.policy import Parameters
from bandits.registry import policies, register
from bandits.statistics import Moments
from policies.fixed_split import Uniform
from webapp.api.routes import every_operation
from webapp.app import create_app
from webapp.services import services_of
from webapp.settings import Settings


def document(api) -> dict[str, Any]:
    return api.get("/openapi.json").json


def references(node: Any) -> Iterator[str]:
    """Go through every reference in the document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for part in node.values():
            yield from references(part)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def test_every_route_that_is_served_is_described_and_no_other(api) -> None:
    served = {
        (re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in api.app.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    paths = document(api)["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} == served


def test_every_reference_leads_somewhere_and_every_schema_is_one(api) -> None:
    contents = document(api)
    schemas = contents["components"]["schemas"]
    for reference in references(contents):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for name, schema in schemas.items():
        assert jsonschema_rs.meta.is_valid(schema), name
        assert "\\Z" not in schema.get("pattern", ""), name


def test_every_operation_says_its_scope_its_problems_and_what_it_does(api) -> None:
    paths = document(api)["paths"]
    for prefix, operation in every_operation():
        path = re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + operation.path)
        contents = paths[path][operation.method.lower()]
        assert contents["summary"]
        if operation.scope is None:
            assert contents["security"] == []
        else:
            assert contents["security"] == [{"key": [operation.scope]}]
            assert {"401", "403", "503"} <= set(contents["responses"])
            assert "WWW-Authenticate" in contents["responses"]["401"]["headers"]
        for problem in operation.problems:
            assert problem.uri in contents["responses"][str(problem.status)]["description"]


def test_every_example_is_taken_by_what_reads_it(api) -> None:
    contents = document(api)
    for prefix, operation in every_operation():
        if operation.body is None:
            continue
        path = re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + operation.path)
        for media in contents["paths"][path][operation.method.lower()]["requestBody"][
            "content"
        ].values():
            operation.body.decode(msgspec.json.encode(media["example"]))
            validator = jsonschema_rs.validator_for(
                {**media["schema"], "components": contents["components"]}
            )
            assert validator.is_valid(media["example"]), path


def policy_choices(schemas: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the schema of each policy's choice, by the policy's name."""
    mapping = schemas["PolicyChoice"]["discriminator"]["mapping"]
    assert [c["$ref"] for c in schemas["PolicyChoice"]["oneOf"]] == list(mapping.values())
    choices = {name: schemas[ref.rpartition("/")[2]] for name, ref in mapping.items()}
    for name, choice in choices.items():
        assert choice["properties"]["name"]["enum"] == [name]
    return choices


def test_each_policys_parameters_are_listed_with_their_bounds(api) -> None:
    schemas = document(api)["components"]["schemas"]
    choices = policy_choices(schemas)
    assert set(choices) == set(policies())
    parameters = schemas["EpsilonGreedy"]["properties"]
    assert choices["epsilon_greedy"]["properties"]["params"]["$ref"].endswith("/EpsilonGreedy")
    assert parameters["epsilon"]["maximum"] <= 1
    assert parameters["epsilon"]["description"]


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Go through every object in a document."""
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from parts(part)
    elif isinstance(node, list):
        for part in node:
            yield from parts(part)


def test_unions_have_names_and_are_of_nothing_else(api) -> None:
    schemas = document(api)["components"]["schemas"]
    names = {"ContextValue", "DecisionOrNull", "EventTime", "Feature", "Finding", "PolicyChoice"}
    php = (Path(__file__).parents[2] / "docs/clients/php.yaml").read_text()
    for name in names:
        assert schemas[name]["title"] == name
        assert php.count(f"\n  {name}: ") == 2, "PHP's generator has no unions"
    null = {"type": "null"}
    for name in schemas.keys() - names:
        for part in parts(schemas[name]):
            if "anyOf" in part:  # a reference that may be null
                assert [set(one) for one in part["anyOf"] if one != null] == [{"$ref"}], name
            assert "oneOf" not in part, name


def test_defaulted_fields_are_optional_and_null_is_no_default(api) -> None:
    for part in parts(document(api)["components"]["schemas"]):
        for name, schema in part.get("properties", {}).items():
            if isinstance(schema, dict) and "default" in schema:
                assert name not in part["required"], name
                assert schema["default"] is not None, name


def test_properties_are_described_as_in_the_code(api) -> None:
    schemas = document(api)["components"]["schemas"]
    assert schemas["Decision"]["description"] == "The email to send."
    described = schemas["Decision"]["properties"]["repeat"]["description"]
    assert described == "it was decided before, and this is the earlier answer."
    assert [n for n, s in schemas.items() if "Attributes:" in s.get("description", "")] == []


def test_listed_texts_have_a_type(api) -> None:
    for part in parts(document(api)):
        if isinstance(part.get("enum"), list):
            assert part["type"] in ("string", ["string", "null"])


def test_slots_of_a_decision_have_a_type(api) -> None:
    schemas = document(api)["components"]["schemas"]
    for name in ("Decision", "DecisionReceipt", "SubjectDecision"):
        slots = schemas[name]["properties"]["slots"]["additionalProperties"]
        assert slots == {"$ref": "#/components/schemas/SlotChoice"}
    assert schemas["SlotChoice"]["required"] == ["variant"]


@pytest.mark.parametrize(("prefix", "server"), [("", "/"), ("/bandits", "/bandits")])
def test_server_is_where_the_document_was_read(api, prefix, server) -> None:
    settings = Settings(secret_key="made up for a test, long enough", url_prefix=prefix)
    app = create_app(services_of(api.app), settings)
    answer = app.test_client().get("/api/v1/openapi.json")
    assert [s["url"] for s in answer.json["servers"]] == [server]


@pytest.fixture
def newcomer(monkeypatch) -> type[Parameters]:
    """A policy that nobody has heard of; it is gone after the test."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @register("cautious_uniform", label="Cautious uniform")
    class CautiousUniform(Uniform):
        """Split equally, with care."""

        care: Annotated[float, Meta(gt=0, lt=1, title="Care", description="how much")] = 0.5
        statistic: ClassVar[type[Moments]] = Moments

    return CautiousUniform


def test_a_new_policy_appears_by_itself_and_is_taken(newcomer, make_api, problem) -> None:
    with make_api() as api:
        schemas = document(api)["components"]["schemas"]
        assert "cautious_uniform" in policy_choices(schemas)
        assert schemas[newcomer.__name__]["properties"]["care"]["exclusiveMaximum"] == 1
        created = api.create(policy={"name": "cautious_uniform", "params": {"care": 0.25}})
        assert created.status_code == 201
        refused = api.create("other", policy={"name": "cautious_uniform", "params": {"care": 2}})
        contents = problem(refused, 422, "invalid")
        assert [e["pointer"] for e in contents["errors"]] == ["/policy/params/care"]


def test_document_lets_times_of_rewards_be_numbers_or_left_out(api) -> None:
    schemas = document(api)["components"]["schemas"]
    forms = {form["type"] for form in schemas["EventTime"]["oneOf"]}
    assert forms == {"string", "number"}
    for name in ("occurred_at", "as_of"):
        time = schemas["Reward"]["properties"][name]["anyOf"]
        assert time == [{"$ref": "#/components/schemas/EventTime"}, {"type": "null"}]
