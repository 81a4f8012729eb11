"""docs/api.md: everything that the API has is in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from bandits import errors
from storage.accounts.roles import Scope
from webapp.api import problems
from webapp.api.experiments import EXAMPLE
from webapp.api.routes import every_operation

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()


@pytest.mark.parametrize(
    ("prefix", "operation"), list(every_operation()), ids=lambda part: getattr(part, "name", "")
)
def test_every_route_is_documented_with_its_scope(prefix, operation) -> None:
    path = re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + operation.path)
    route = re.escape(f"`{operation.method} {path}`")
    match = re.search(rf"^(?:### {route} · (\w+)|\| {route} \| (\w+) \|.*)$", PAGE, re.MULTILINE)
    assert match is not None, path
    assert (match[1] or match[2]) == (operation.scope or "none")


def test_no_route_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"`((?:GET|POST|PATCH|PUT|DELETE) /[^`]*)`", PAGE))
    served = {
        f"{o.method} " + re.sub(r"<[^>]*?:?(\w+)>", r"{\1}", prefix + o.path)
        for prefix, o in every_operation()
    }
    assert documented == served


def test_every_problem_type_is_documented_with_its_status_and_no_other() -> None:
    documented = re.findall(r"^\| `/problems/([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)
    assert sorted(documented) == [(t.name, str(t.status)) for t in problems.TYPES.values()]
    assert [status for _, status in documented] == sorted(status for _, status in documented)


def test_every_scope_is_documented() -> None:
    for scope in get_args(Scope):
        assert f"| `{scope}` |" in PAGE


def test_every_field_of_an_experiment_is_documented(api) -> None:
    declared = api.get("/openapi.json").json["components"]["schemas"]["Experiment"]["properties"]
    for name in declared:
        assert f"\n| `{name}` |" in PAGE, name


@pytest.mark.parametrize("name", sorted(problems.TYPES))
def test_following_a_problems_type_explains_it(api, name) -> None:
    response = api.get(f"/problems/{name}")
    assert response.status_code == 200
    assert problems.TYPES[name].help in response.text


def test_every_error_that_the_engine_raises_has_a_type_of_its_own() -> None:
    kinds = {k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)}
    # The root stands for the unforeseen; the others are raised as a process starts.
    for kind in kinds - {errors.BanditsError, errors.DuplicatePolicy, errors.ShadowedPackage}:
        assert problems.TYPE_BY_EXCEPTION[kind].status < 500 or issubclass(kind, errors.Unavailable)


def exchanges() -> Iterator[tuple[str, str]]:
    """Go through the requests that the page shows, and the answers to them."""
    for block in re.findall(r"^```http\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL):
        texts = block.split("\n\n")
        yield from zip(texts[::2], texts[1::2], strict=True)


def test_examples_are_answered_as_the_page_shows(api) -> None:
    api.post("/experiments", EXAMPLE)
    api.post(f"/experiments/{EXAMPLE['key']}/start")
    reader = api.key("read")
    for request, answer in exchanges():
        head, _, body = request.partition("{")
        line, *fields = head.splitlines()
        method, _, path = line.partition(" ")
        headers = dict(field.replace("READER", reader).split(": ", 1) for field in fields)
        response = api.call(
            method,
            path.removeprefix(api.prefix),
            headers=headers,
            raw=f"{{{body}".encode() if body else None,
        )
        status, _, content = answer.partition("\n")
        assert response.status_code == int(status), request
        if content:
            shown = json.loads(content)
            assert response.json == shown | {"request_id": response.json["request_id"]}, request
    assert len(list(exchanges())) > 10
