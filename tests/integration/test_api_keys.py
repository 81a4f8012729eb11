"""API keys, and what each may do: every route of the API is refused without its scope."""

import re
from typing import get_args

import pytest
from flask import Flask

from storage.accounts.roles import ROLES, Role, Scope, includes
from webapp.api.routes import every_operation

SCOPES: tuple[Scope, ...] = get_args(Scope)
OPEN = {"healthz", "readyz", "openapi_document", "explain_problem"}
PARTS = {
    "key": "spring",
    "decision_id": "d",
    "subject_id": "u",
    "key_id": "1",
    "void_id": "1",
    "name": "invalid",
    "connection": "mailer",
    "refusal_id": "1",
    "key_number": "1",
}


def routes(app: Flask) -> list[tuple[str, str, str]]:
    """List the endpoint, method and an address of everything in the API's blueprint."""
    operations = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = re.sub(r"<[^>]*?:?(\w+)>", lambda m: PARTS[m[1]], rule.rule)
            methods = sorted(rule.methods - {"HEAD", "OPTIONS"})
            operations += [(rule.endpoint.removeprefix("api."), method, path) for method in methods]
    return operations


def test_the_routes_are_those_that_are_declared(api) -> None:
    declared = {(o.name, o.method) for _, o in every_operation()}
    assert {(name, method) for name, method, _ in routes(api.app)} == declared
    below = [r for r in api.app.url_map.iter_rules() if r.rule.startswith("/api/")]
    assert all(r.endpoint.startswith("api.") for r in below)


def test_every_route_is_refused_without_a_key(api) -> None:
    for name, method, path in routes(api.app):
        answer = api.client.open(path, method=method, json={})
        if name in OPEN:
            assert answer.status_code == 200, name
            continue
        assert answer.status_code == 401, name
        assert answer.json["type"] == "/problems/unauthenticated"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="bandits"'


def test_every_route_takes_its_own_scope_and_no_other(api) -> None:
    api.start()
    needed = {o.name: o.scope for _, o in every_operation()}
    assert {name for name, scope in needed.items() if scope is None} == OPEN
    for scope in SCOPES:
        headers = {"Authorization": f"Bearer {api.key(scope)}"}
        others = {"Authorization": f"Bearer {api.key(*(s for s in SCOPES if s != scope))}"}
        for name, method, path in routes(api.app):
            if needed[name] != scope:
                continue
            refused = api.client.open(path, method=method, json={}, headers=others)
            assert refused.status_code == 403, name
            assert refused.json["type"] == "/problems/forbidden"
            challenge = refused.headers["WWW-Authenticate"]
            assert 'error="insufficient_scope"' in challenge
            assert f'scope="{scope}"' in challenge
            if name == "rotate_key":  # of a key that may do more, it is refused
                path = path.replace("/1/", f"/{api.accounts.keys.all()[1].id}/")  # noqa: PLW2901 - its own
            taken = api.client.open(path, method=method, json={}, headers=headers)
            assert taken.status_code not in {401, 403}, name


# Pages that show or do the same as an operation of another name.
PAGES = {
    "limit_key": "create_key",
    "list_connections": "connections",
    "list_keys": "api_keys",
    "list_refused_events": "connection",
    "read_connection": "connection",
    "read_refused_event": "refused_event",
}


def owned_key(api, role: Role, *scopes: Scope) -> str:
    """Make a key of a person with a role, and return its token."""
    owner = f"{role}@shop.example"
    api.accounts.add_user(owner, "", role, at=api.clock(), by="test")
    made = api.accounts.keys.create("own", scopes, at=api.clock(), by=owner, owner=owner)
    return made.token


@pytest.mark.parametrize("role", ROLES)
def test_key_takes_every_route_that_its_owner_may_and_no_other(api, role) -> None:
    """Before: the key that a manager made voided, and made connections, which take an admin."""
    api.start()
    headers = {"Authorization": f"Bearer {owned_key(api, role, *SCOPES)}"}
    operations = {o.name: o for _, o in every_operation()}
    for name, method, path in routes(api.app):
        needed = operations[name].role
        if needed is None:
            continue
        if name == "rotate_key":  # of a key that may do more, it is refused
            path = path.replace("/1/", f"/{api.accounts.keys.all()[0].id}/")  # noqa: PLW2901 - its own
        answer = api.client.open(path, method=method, json={}, headers=headers)
        if includes(role, needed):
            assert answer.status_code not in {401, 403}, name
        else:
            assert answer.status_code == 403, name
            assert answer.json["type"] == "/problems/forbidden"
            assert repr(needed) in answer.json["detail"]


def test_every_route_takes_the_role_that_the_same_takes_on_pages(api) -> None:
    views = api.app.view_functions
    compared = 0
    for _, operation in every_operation():
        view = views.get(f"pages.{PAGES.get(operation.name, operation.name)}")
        if view is not None and operation.role is not None:
            assert includes(operation.role, view.needs), operation.name
            compared += 1
    assert compared > len(PAGES) + 10


def test_key_may_do_no_more_than_its_owner_may_by_now(api, problem) -> None:
    """Before: the keys of a manager who became a viewer went on as they were."""
    api.start()
    token = owned_key(api, "admin", *SCOPES)
    (owner,) = (k.owner for k in api.accounts.keys.all() if k.owner)
    deeds = {"actor": "key:9", "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}

    def statuses() -> list[int]:
        choose = api.post("/experiments/spring/choose", {"subject_id": "u"}, token=token)
        voided = api.post("/voids", deeds | {"dry_run": True}, token=token)
        read = api.get("/experiments", token=token)
        return [choose.status_code, voided.status_code, read.status_code]

    assert 403 not in statuses()
    for role, expected in (("manager", [201, 403, 200]), ("viewer", [403, 403, 200])):
        api.accounts.set_role(owner, role, at=api.clock(), by="test")
        assert statuses() == expected
    api.accounts.set_role(owner, "manager", at=api.clock(), by="test")
    made = api.post("/keys", {"name": "child", "scopes": ["manage"]}, token=token)
    problem(api.post("/voids", deeds, token=made.json["token"]), 403, "forbidden")
    problem(api.post("/keys/1/rotate", {}, token=token), 403, "forbidden")  # of an admin's


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer nonsense",
        "Bearer bandits_000000000000_nonsense",
        "Bearer bandits_%00_x",
        "Bearer " + "x" * 5000,
        "Bearer \xff\xfe",
    ],
)
def test_impossible_token_is_refused(api, problem, header) -> None:
    answer = api.client.get("/api/v1/experiments", headers={"Authorization": header})
    problem(answer, 401, "unauthenticated")


def test_token_but_for_one_sign_is_refused_and_says_invalid(api, problem) -> None:
    for near in (api.token[:-1], api.token + "x", api.token.swapcase(), api.token[:-1] + "!"):
        answer = api.get("/experiments", token=near)
        problem(answer, 401, "unauthenticated")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_made_key_works_until_it_is_revoked(api, problem) -> None:
    created = api.post("/keys", {"name": "sender", "scopes": ["read", "choose", "read"]})
    assert created.status_code == 201
    assert created.headers["Cache-Control"] == "no-store"
    token, key = created.json["token"], created.json["key"]
    assert key["scopes"] == ["read", "choose"]
    assert token.startswith(key["start"])
    assert api.get("/experiments", token=token).status_code == 200
    problem(api.get("/keys", token=token), 403, "forbidden")
    for _ in range(2):
        revoked = api.call("DELETE", f"/keys/{key['id']}")
        assert (revoked.status_code, revoked.data) == (204, b"")
    problem(api.get("/experiments", token=token), 401, "unauthenticated")


def test_a_rotated_key_has_a_new_token_and_the_old_one_for_its_grace(api, clock, problem) -> None:
    created = api.post("/keys", {"name": "sender", "scopes": ["read"]}).json
    path = f"/keys/{created['key']['id']}/rotate"
    rotated = api.post(path, {"grace_seconds": 60})
    assert rotated.status_code == 200
    assert rotated.headers["Cache-Control"] == "no-store"
    assert rotated.json["key"]["id"] == created["key"]["id"]
    tokens = [created["token"], rotated.json["token"]]
    assert [api.get("/experiments", token=t).status_code for t in tokens] == [200, 200]
    clock.now += 61
    assert [api.get("/experiments", token=t).status_code for t in tokens] == [401, 200]
    problem(api.post(path, {"grace_seconds": -1}), 422, "invalid")
    at_once = api.post(path, {"grace_seconds": 0}).json
    assert api.get("/experiments", token=tokens[1]).status_code == 401
    api.call("DELETE", f"/keys/{at_once['key']['id']}")
    problem(api.post(path, {}), 409, "conflict")
    problem(api.post("/keys/99/rotate", {}), 404, "not-found")


def test_keys_are_listed_page_by_page(api) -> None:
    for _ in range(4):
        api.key("read")
    every = [k["id"] for k in api.get("/keys").json["keys"]]
    assert len(every) == 5
    paged, after = [], ""
    while after is not None:
        page = api.get(f"/keys?limit=2{after}").json
        paged += [k["id"] for k in page["keys"]]
        after = page["next"] and f"&after={page['next']}"
    assert paged == every


def test_no_answer_shows_a_token_again(api) -> None:
    created = api.post("/keys", {"name": "sender", "scopes": ["read"]}).json
    secret = created["token"].removeprefix(created["key"]["start"])
    listed = api.get("/keys")
    assert [k["name"] for k in listed.json["keys"]] == ["sender", "test"]
    assert secret not in listed.text


def test_an_unknown_key_cannot_be_revoked(api, problem) -> None:
    for number in ("99", "2147483647", "2147483648", "9" * 30, "-1", "x"):
        problem(api.call("DELETE", f"/keys/{number}"), 404, "not-found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["admin"]}, "/scopes/0"),
        ({"scopes": "read"}, "/scopes"),
    ],
)
def test_a_key_that_does_not_fit_names_the_place(api, problem, change, pointer) -> None:
    refusal = problem(api.post("/keys", {"name": "n", "scopes": ["read"]} | change), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [pointer]
    assert len(api.get("/keys").json["keys"]) == 1
