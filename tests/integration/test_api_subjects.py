"""Subjects over the API: reading what is stored of them, and erasure."""

from typing import Any
from urllib.parse import quote

import pytest

STRANGE = [
    *("ann@shop.example", "a/b/erase", "Ø 1?x=2#y", "x" * 256, "../keys", "a\nb"),
    *("read", "erase", "u-1/erase", "/", " "),
]


def subject(name: str) -> str:
    return f"/subjects/{quote(name, safe='')}"


def read(api, name: str) -> list[dict[str, Any]]:
    return api.post("/subjects/read", {"subject_id": name}).json["decisions"]


def test_subject_is_told_everything_that_is_stored(api) -> None:
    api.start()
    context = {"recency": 3, "channel": "Web"}
    eligible = {"subject_line": ["b"]}
    chosen = api.choose("u-1", context=context, eligible=eligible)
    api.choose("u-2")
    reward = {"decision_id": chosen["decision_id"], "event_id": "e", "metric": "click"}
    api.post("/rewards", {"rewards": [reward]})
    answer = api.post("/subjects/read", {"subject_id": "u-1"})
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.json
    assert page["next"] is None
    (decision,) = page["decisions"]
    assert decision["decision_id"] == chosen["decision_id"]
    assert decision["context"] == context
    assert decision["eligible"] == eligible
    assert [e["metric"] for e in decision["events"]] == ["click"]
    nobody = api.post("/subjects/read", {"subject_id": "nobody"})
    counts = {"signals": [], "other_spellings": 0, "opted_out_at": None}
    assert nobody.json == {"decisions": [], "next": None} | counts


def test_an_erased_subject_is_gone_everywhere(api, clock, problem) -> None:
    for key in ("spring", "autumn"):
        api.start(key)
        api.choose("u-1", key)
        chosen = api.choose("u-2", key)
    clock.now += 20
    for key in ("spring", "autumn"):
        api.engine.learn(key)
    decisions_of_subject = read(api, "u-1")
    erased = api.post("/subjects/erase", {"subject_id": "u-1"})
    counts = {"signals": 0, "other_spellings": 0}
    assert erased.json == {"decisions": 2, "experiments": ["autumn", "spring"]} | counts
    for decision in decisions_of_subject:
        problem(api.get(f"/decisions/{decision['decision_id']}"), 404, "not-found")
    for key in ("spring", "autumn"):
        results = api.get(f"/experiments/{key}/results").json
        assert sum(arm["sent"] for arm in results["arms"]) == 1
    assert api.get(f"/decisions/{chosen['decision_id']}").status_code == 200
    again = api.post("/subjects/erase", {"subject_id": "u-1"})
    assert again.json == {"decisions": 0, "experiments": []} | counts


@pytest.mark.parametrize("attribution", ["last", None])
@pytest.mark.parametrize("indexed", [True, False])
def test_other_spellings_of_a_subject_are_told_and_erased_where_asked(
    api, attribution, indexed
) -> None:
    """Before: an order by P1@SHOP found p1@shop, and erasing P1@SHOP found nothing, and said no
    more.
    """
    api.start(attribution=attribution)
    names = ["p1@shop", "p1@shop", "p2@shop"] + ["P1@shop "] * (attribution is not None)
    for name in names:
        api.choose(name)
    if indexed:
        api.engine.index_subjects()
    others = len(names) - 1
    page = api.post("/subjects/read", {"subject_id": "P1@SHOP"}).json
    assert (page["decisions"], page["other_spellings"]) == ([], others)
    every = {"subject_id": "P1@SHOP", "any_spelling": True, "limit": 1}
    page = api.post("/subjects/read", every).json
    assert (len(page["decisions"]), page["other_spellings"]) == (1, 0)
    rest = api.post("/subjects/read", every | {"after": page["next"], "limit": 9}).json
    assert len(rest["decisions"]) == others - 1
    erased = api.post("/subjects/erase", {"subject_id": "P1@SHOP"}).json
    assert (erased["decisions"], erased["other_spellings"]) == (0, others)
    one = api.post("/subjects/erase", {"subject_id": "p1@shop"}).json
    assert (one["decisions"], one["other_spellings"]) == (2, others - 2)
    erased = api.post("/subjects/erase", {"subject_id": "P1@SHOP", "any_spelling": True}).json
    assert (erased["decisions"], erased["other_spellings"]) == (others - 2, 0)
    assert len(read(api, "p2@shop")) == 1


@pytest.mark.parametrize("name", STRANGE)
def test_a_subject_may_be_called_anything(api, name) -> None:
    api.start()
    api.choose(name)
    api.choose("other")
    assert len(read(api, name)) == 1
    assert api.post("/subjects/erase", {"subject_id": name}).json["decisions"] == 1
    assert read(api, name) == []
    assert len(read(api, "other")) == 1


@pytest.mark.parametrize("body", [{}, {"subject_id": ""}, {"subject_id": "x" * 257}, {"id": "u"}])
def test_a_body_without_a_subject_is_invalid(api, problem, body) -> None:
    problem(api.post("/subjects/read", body), 422, "invalid")
    problem(api.post("/subjects/erase", body), 422, "invalid")


def test_subject_history_pages_follow_each_other(api, problem) -> None:
    api.start()
    ids = [api.choose("u-1")["decision_id"] for _ in range(3)]
    subject = {"subject_id": "u-1"}
    first = api.post("/subjects/read", subject | {"limit": 2}).json
    second = api.post("/subjects/read", subject | {"limit": 2, "after": first["next"]}).json
    assert [d["decision_id"] for d in first["decisions"] + second["decisions"]] == ids
    assert second["next"] is None
    problem(api.post("/subjects/read", subject | {"limit": 0}), 422, "invalid")


# The addresses that hold the id.


@pytest.mark.parametrize("name", STRANGE)
def test_deprecated_addresses_go_on_and_say_so(api, name) -> None:
    api.start()
    api.choose(name)
    api.choose("other")
    answer = api.get(subject(name))
    assert answer.headers["Deprecation"].startswith("@")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["decisions"] == read(api, name)
    erased = api.post(f"{subject(name)}/erase")
    assert erased.json["decisions"] == 1
    assert erased.headers["Deprecation"].startswith("@")
    assert read(api, name) == []
    assert len(read(api, "other")) == 1


def test_a_name_that_no_subject_can_have_is_not_found(api, problem) -> None:
    problem(api.get(subject("x" * 257)), 404, "not-found")


def test_deprecated_history_pages_follow_each_other(api, problem) -> None:
    api.start()
    ids = [api.choose("u-1")["decision_id"] for _ in range(3)]
    first = api.get("/subjects/u-1?limit=2").json
    second = api.get(f"/subjects/u-1?limit=2&after={first['next']}").json
    assert [d["decision_id"] for d in first["decisions"] + second["decisions"]] == ids
    assert second["next"] is None
    problem(api.get("/subjects/u-1?limit=0"), 422, "invalid")


def test_only_deprecated_operations_are_described_so(api) -> None:
    paths = api.get("/openapi.json").json["paths"]
    deprecated = {
        f"{method} {path}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if operation.get("deprecated")
    }
    assert deprecated == {
        "get /api/v1/subjects/{subject_id}",
        "post /api/v1/subjects/{subject_id}/erase",
    }
