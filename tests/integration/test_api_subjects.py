"""Subjects over the API: reading what is stored of them, and erasure."""

from urllib.parse import quote

import pytest

STRANGE = ["ann@shop.example", "a/b/erase", "Ø 1?x=2#y", "x" * 256, "../keys", "a\nb"]


def subject(name: str) -> str:
    return f"/subjects/{quote(name, safe='')}"


def test_subject_is_told_everything_that_is_stored(api) -> None:
    api.start()
    context = {"recency": 3, "channel": "Web"}
    eligible = {"subject_line": ["b"]}
    chosen = api.choose("u-1", context=context, eligible=eligible)
    api.choose("u-2")
    reward = {"decision_id": chosen["decision_id"], "event_id": "e", "metric": "click"}
    api.post("/rewards", {"rewards": [reward]})
    answer = api.get("/subjects/u-1")
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.json
    assert page["next"] is None
    (decision,) = page["decisions"]
    assert decision["decision_id"] == chosen["decision_id"]
    assert decision["context"] == context
    assert decision["eligible"] == eligible
    assert [e["metric"] for e in decision["events"]] == ["click"]
    assert api.get("/subjects/nobody").json == {"decisions": [], "next": None, "signals": []}


def test_an_erased_subject_is_gone_everywhere(api, clock, problem) -> None:
    for key in ("spring", "autumn"):
        api.start(key)
        api.choose("u-1", key)
        chosen = api.choose("u-2", key)
    clock.now += 20
    for key in ("spring", "autumn"):
        api.engine.learn(key)
    decisions_of_subject = api.get("/subjects/u-1").json["decisions"]
    erased = api.post("/subjects/u-1/erase")
    assert erased.json == {"decisions": 2, "experiments": ["autumn", "spring"], "signals": 0}
    for decision in decisions_of_subject:
        problem(api.get(f"/decisions/{decision['decision_id']}"), 404, "not-found")
    for key in ("spring", "autumn"):
        results = api.get(f"/experiments/{key}/results").json
        assert sum(arm["sent"] for arm in results["arms"]) == 1
    assert api.get(f"/decisions/{chosen['decision_id']}").status_code == 200
    assert api.post("/subjects/u-1/erase").json == {"decisions": 0, "experiments": [], "signals": 0}


@pytest.mark.parametrize("name", STRANGE)
def test_a_subject_may_be_called_anything(api, name) -> None:
    api.start()
    api.choose(name)
    api.choose("other")
    assert len(api.get(subject(name)).json["decisions"]) == 1
    assert api.post(f"{subject(name)}/erase").json["decisions"] == 1
    assert api.get(subject(name)).json["decisions"] == []
    assert len(api.get(subject("other")).json["decisions"]) == 1


def test_a_name_that_no_subject_can_have_is_not_found(api, problem) -> None:
    problem(api.get(subject("x" * 257)), 404, "not-found")


def test_subject_history_pages_follow_each_other(api, problem) -> None:
    api.start()
    ids = [api.choose("u-1")["decision_id"] for _ in range(3)]
    first = api.get("/subjects/u-1?limit=2").json
    second = api.get(f"/subjects/u-1?limit=2&after={first['next']}").json
    assert [d["decision_id"] for d in first["decisions"] + second["decisions"]] == ids
    assert second["next"] is None
    problem(api.get("/subjects/u-1?limit=0"), 422, "invalid")
