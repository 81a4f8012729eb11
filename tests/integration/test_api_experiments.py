"""Experiments over the API: declared, edited, started, stopped, listed, and their results."""

import msgspec
import pytest

from bandits.experiment import Experiment
from webapp.api.experiments import merge_patch


def test_a_created_experiment_is_a_draft_with_every_default_filled_in(api, clock) -> None:
    response = api.create(name="Spring sale")
    assert response.status_code == 201
    assert response.headers["Location"] == "/api/v1/experiments/spring"
    assert response.headers["ETag"] == '"1"'
    document = response.json
    assert document["state"] == "draft"
    assert document["arms"] == 3
    assert document["configuration_version"] == 1
    assert document["policy_version"] == 0
    assert document["started_at"] is None
    assert document["declaration"]["name"] == "Spring sale"
    assert document["declaration"]["assignment"] == "per_decision"
    assert msgspec.convert(document["declaration"], Experiment).key == "spring"
    assert api.get("/experiments/spring").json == document


def test_declaration_that_was_read_can_be_declared_under_another_key(api) -> None:
    declared = api.create().json["declaration"]
    copied = api.post("/experiments", declared | {"key": "copy"})
    assert copied.status_code == 201
    assert copied.json["declaration"] == declared | {"key": "copy"}


def test_a_taken_key_is_refused(api, problem) -> None:
    api.create()
    problem(api.create(name="another"), 409, "already-exists")
    assert api.get("/experiments/spring").json["declaration"]["name"] == ""


def test_an_unknown_experiment_is_not_found(api, problem) -> None:
    for path in ("", "/results"):
        problem(api.get(f"/experiments/nowhere{path}"), 404, "not-found")
    for action in ("start", "pause", "stop", "archive"):
        problem(api.post(f"/experiments/nowhere/{action}"), 404, "not-found")
    problem(api.post("/experiments/nowhere/choose", {"subject_id": "u"}), 404, "not-found")


@pytest.mark.parametrize("key", ["a b", "-a", "%00", "%C3%A9", "a" * 65, "..%2F"])
def test_impossible_key_is_not_found(api, problem, key) -> None:
    problem(api.get(f"/experiments/{key}"), 404, "not-found")


def test_an_experiment_goes_through_its_life(api, problem) -> None:
    api.create()
    problem(api.post("/experiments/spring/pause"), 409, "wrong-state")
    for action, state in [
        ("start", "running"),
        ("pause", "paused"),
        ("start", "running"),
        ("stop", "stopped"),
    ]:
        moved = api.post(f"/experiments/spring/{action}")
        assert moved.status_code == 200
        assert moved.json["state"] == state
    refusal = problem(api.post("/experiments/spring/start"), 409, "wrong-state")
    assert "stopped" in refusal["detail"]
    assert api.post("/experiments/spring/archive").json["state"] == "archived"


def test_choose_needs_a_running_experiment(api, problem) -> None:
    api.create()
    body = {"subject_id": "u"}
    problem(api.post("/experiments/spring/choose", body), 409, "wrong-state")
    api.post("/experiments/spring/start")
    assert api.post("/experiments/spring/choose", body).status_code == 201
    api.post("/experiments/spring/pause")
    problem(api.post("/experiments/spring/choose", body), 409, "wrong-state")


def test_experiment_list_goes_from_page_to_page_newest_first(api) -> None:
    for i in range(5):
        api.create(f"e{i}")
    first = api.get("/experiments?limit=2").json
    assert [e["key"] for e in first["experiments"]] == ["e4", "e3"]
    second = api.get(f"/experiments?limit=2&after={first['next']}").json
    assert [e["key"] for e in second["experiments"]] == ["e2", "e1"]
    last = api.get(f"/experiments?limit=2&after={second['next']}").json
    assert [e["key"] for e in last["experiments"]] == ["e0"]
    assert last["next"] is None


def test_experiment_list_leaves_out_the_archived_unless_asked(api) -> None:
    api.create("old")
    api.create("new")
    api.post("/experiments/old/archive")
    assert [e["key"] for e in api.get("/experiments").json["experiments"]] == ["new"]
    archived = api.get("/experiments?state=archived").json["experiments"]
    assert [e["key"] for e in archived] == ["old"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=many", "/limit"),
        ("limit=1&limit=2", "/limit"),
        ("state=sleeping", "/state"),
        ("after=nowhere", "/after"),
        ("after=-1", "/after"),
        ("page=2", "/page"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_by_name(api, problem, query, pointer) -> None:
    refusal = problem(api.get(f"/experiments?{query}"), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [pointer]


def edit(api, patch, etag='"1"', **options):
    headers = {} if etag is None else {"If-Match": etag}
    return api.call("PATCH", "/experiments/spring", patch, headers=headers, **options)


def test_an_edit_is_merged_and_makes_a_new_version(api) -> None:
    api.create(name="Spring sale", floor=0.05)
    edited = edit(api, {"name": "Summer sale", "floor": None, "reward": {"window_seconds": 500}})
    assert edited.status_code == 200
    assert edited.headers["ETag"] == '"2"'
    declared = edited.json["declaration"]
    assert declared["name"] == "Summer sale"
    assert declared["floor"] is None
    assert declared["reward"]["window_seconds"] == 500
    assert set(declared["reward"]["metrics"]) == {"click", "order"}


def test_a_merge_patch_may_say_its_media_type(api) -> None:
    api.create()
    edited = edit(api, {"name": "x"}, content_type="application/merge-patch+json")
    assert edited.status_code == 200


def test_later_of_two_editors_is_told(api, problem) -> None:
    api.create()
    assert edit(api, {"name": "first"}).status_code == 200
    refusal = problem(edit(api, {"name": "second"}), 412, "stale-edit")
    assert "configuration 2" in refusal["detail"]
    assert api.get("/experiments/spring").json["declaration"]["name"] == "first"


def test_an_edit_must_say_what_it_was_made_on(api, problem) -> None:
    api.create()
    refusal = problem(edit(api, {"name": "x"}, etag=None), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/If-Match"]
    problem(edit(api, {"name": "x"}, etag='"other"'), 412, "stale-edit")
    problem(edit(api, {"name": "x"}, etag='W/"1"'), 412, "stale-edit")
    assert edit(api, {"name": "x"}, etag="*").status_code == 200


@pytest.mark.parametrize("etag", ['""', '"', "", '"\u00b2"', f'"{"9" * 5000}"', '"-1"'])
def test_an_etag_that_was_never_given_is_stale_whatever_it_is(api, problem, etag) -> None:
    api.create()
    problem(edit(api, {"name": "x"}, etag=etag), 412, "stale-edit")


def test_the_etag_is_of_the_configuration_not_of_what_is_learned(api, clock) -> None:
    api.start()
    api.choose()
    clock.now += 11
    assert api.engine.learn("spring") is not None
    read = api.get("/experiments/spring")
    assert read.json["policy_version"] == 1
    assert read.headers["ETag"] == '"1"'


def test_started_experiment_is_mostly_fixed_and_the_refusal_says_what(api, problem) -> None:
    api.start()
    refusal = problem(
        edit(api, {"holdout": 0.1, "reward": {"window_seconds": 20}}), 409, "fixed-once-started"
    )
    assert {e["pointer"] for e in refusal["errors"]} == {"/holdout", "/reward"}
    assert edit(api, {"floor": 0.02}).status_code == 200


def test_an_edit_that_does_not_fit_names_the_place(api, problem) -> None:
    api.create()
    refusal = problem(edit(api, {"holdout": "much"}), 422, "invalid")
    assert refusal["errors"] == [{"pointer": "/holdout", "detail": "must be a number, not text"}]
    refusal = problem(edit(api, {"slots": None}), 422, "invalid")
    assert refusal["errors"] == [{"pointer": "/slots", "detail": "is required"}]
    refusal = problem(edit(api, {"colour": "red"}), 422, "invalid")
    assert refusal["errors"][0]["pointer"] == "/colour"
    assert refusal["errors"][0]["detail"].startswith("unknown field; known are key, ")
    refusal = problem(edit(api, {"key": "autumn"}), 422, "invalid")
    assert refusal["errors"][0]["pointer"] == "/key"


# RFC 7396, appendix A: original, patch, result.
EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), EXAMPLES)
def test_merge_patch_follows_the_examples_of_the_rfc(original, patch, result) -> None:
    assert merge_patch(original, patch) == result


def test_results_tell_what_each_arm_did(api, clock) -> None:
    api.start(holdout=0.5)
    decisions = [api.choose(f"u-{i}") for i in range(40)]
    clicked = [d for d in decisions if not d["holdout"]][:3]
    rewards = [
        {"decision_id": d["decision_id"], "event_id": "1", "metric": "click"} for d in clicked
    ]
    api.post("/rewards", {"rewards": rewards})
    before = api.get("/experiments/spring/results").json
    assert before["version"] == 0
    assert before["at"] is None
    assert before["history"] == []
    clock.now += 11
    api.engine.learn("spring")
    results = api.get("/experiments/spring/results").json
    assert results["version"] == 1
    assert sum(a["sent"] for a in results["arms"]) == sum(not d["holdout"] for d in decisions)
    assert results["holdout"]["sent"] == sum(d["holdout"] for d in decisions)
    assert sum(a["metrics"]["click"] for a in results["arms"]) == 3
    assert sum(a["reward"] for a in results["arms"]) == pytest.approx(3)
    assert sum(a["share_now"] for a in results["arms"]) == pytest.approx(1)
    assert len(results["history"]) == 1


def test_every_change_is_in_the_audit_log_under_the_key_that_made_it(api) -> None:
    api.start()
    edit(api, {"name": "x"})
    changes = api.accounts.changes(subject="experiment:spring")
    assert len(changes) == 3
    assert {c.by for c in changes} == {"key:1"}
