"""Idempotency-Key: the same request again gets the same answer, and is done once."""

from typing import Any

import pytest

from bandits.errors import Unavailable
from storage.accounts.idempotency_keys import IdempotencyKeyStore
from webapp.api.experiments import EXAMPLE
from webapp.api.routes import every_operation

CHOOSE = "/experiments/spring/choose"
PERSON = {"subject_id": "u-1", "context": {"recency": 3}}


@pytest.fixture
def post(api):
    """Post with an idempotency key."""

    def post(path: str, body: Any = None, key: str = "k-1", **options: Any):
        return api.post(path, body, headers={"Idempotency-Key": key}, **options)

    return post


def sent(api) -> int:
    """Count the decisions of the experiment."""
    api.clock.now += 20
    api.engine.learn("spring")
    return sum(arm.sent for arm in api.engine.results("spring").arms)


def test_choice_with_a_key_is_made_once_and_answered_the_same(api, post) -> None:
    api.start()
    first, second = post(CHOOSE, PERSON), post(CHOOSE, PERSON)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.data == second.data
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert post(CHOOSE, PERSON, key="k-2").json["decision_id"] != first.json["decision_id"]
    assert sent(api) == 2


def test_body_may_be_written_in_another_way(api, post) -> None:
    api.start()
    first = post(CHOOSE, PERSON)
    text = b'{ "context": {"recency": 3}, "decision_id": null, "subject_id": "u-1" }'
    assert post(CHOOSE, raw=text).data == first.data


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHOOSE, {"subject_id": "u-2"}),
        ("/experiments/autumn/choose", PERSON),
        (f"{CHOOSE}/batch", {"requests": [PERSON]}),
    ],
)
def test_key_with_another_request_is_refused_with_words(api, post, problem, path, body) -> None:
    api.start()
    api.start("autumn")
    post(CHOOSE, PERSON)
    refusal = problem(post(path, body), 422, "invalid")
    assert refusal["errors"] == [
        {
            "pointer": "/Idempotency-Key",
            "detail": "came before with another request; use a new key",
        }
    ]
    assert sent(api) == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 129, "ü"])
def test_key_that_is_no_id_is_refused(api, post, problem, key) -> None:
    api.start()
    refusal = problem(post(CHOOSE, PERSON, key=key), 422, "invalid")
    assert refusal["errors"][0]["pointer"] == "/Idempotency-Key"


@pytest.mark.parametrize("keys", [["k-1", "k-2"], ["k-1", "k-1"], ["k-1,k-2"]])
def test_two_keys_of_one_request_are_refused(api, problem, keys) -> None:
    """Before: both together were the key."""
    api.start()
    headers = [("Authorization", f"Bearer {api.token}")]
    headers += [("Idempotency-Key", key) for key in keys]
    answer = api.client.post(f"{api.prefix}{CHOOSE}", json=PERSON, headers=headers)
    assert problem(answer, 422, "invalid")["errors"][0]["pointer"] == "/Idempotency-Key"
    assert sent(api) == 0


def test_dry_run_is_kept_for_no_key(api, post) -> None:
    """Before: the answer of each was, for a day."""
    api.start()
    body = {"requests": [PERSON], "dry_run": True}
    for _ in range(2):
        answer = post(f"{CHOOSE}/batch", body)
        assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (200, False)
    done = post(f"{CHOOSE}/batch", body | {"dry_run": False})
    assert done.status_code == 201, "the key is still free"


def test_keys_of_two_callers_have_nothing_to_do_with_each_other(api, post) -> None:
    api.start()
    other = api.key("choose")
    first, second = post(CHOOSE, PERSON), post(CHOOSE, {"subject_id": "u-9"}, token=other)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json["decision_id"] != second.json["decision_id"]


def test_key_of_a_refused_request_is_free_again(api, post, problem) -> None:
    api.create()
    problem(post(CHOOSE, PERSON), 409, "wrong-state")
    api.post("/experiments/spring/start")
    problem(post(CHOOSE, PERSON | {"context": {"age": 1}}), 422, "invalid")
    assert post(CHOOSE, PERSON).status_code == 201


def test_key_is_kept_for_a_day(api, post, clock) -> None:
    api.start()
    first = post(CHOOSE, PERSON)
    clock.now += 86_400
    assert post(CHOOSE, PERSON).data == first.data
    clock.now += 1
    assert post(CHOOSE, PERSON).json["decision_id"] != first.json["decision_id"]


def test_batch_whose_answer_is_too_long_to_keep_gets_the_same_decisions(api, post) -> None:
    api.start()
    body = {"requests": [{"subject_id": f"u-{i}"} for i in range(1000)]}
    first, second = (post(f"{CHOOSE}/batch", body) for _ in range(2))
    assert len(first.data) > 64_000
    assert (first.status_code, second.status_code) == (201, 200)
    again = second.json["decisions"]
    assert [d | {"repeat": True} for d in first.json["decisions"]] == again
    assert sent(api) == 1000


def test_requests_with_ids_of_their_own_keep_them(api, post) -> None:
    api.start()
    body = {"requests": [PERSON | {"decision_id": "mine"}, PERSON]}
    ids = [d["decision_id"] for d in post(f"{CHOOSE}/batch", body).json["decisions"]]
    assert ids[0] == "mine"
    assert len(ids[1]) == 36


def test_choice_whose_answer_was_never_stored_is_the_same(api, post, monkeypatch) -> None:
    api.start()

    def fail(*_: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(IdempotencyKeyStore, "keep", fail)
        first = post(CHOOSE, PERSON)
    assert first.status_code == 201
    second = post(CHOOSE, PERSON)
    assert (second.status_code, second.json) == (200, first.json | {"repeat": True})
    assert sent(api) == 1


def test_experiment_is_made_and_started_once(api, post) -> None:
    first, second = post("/experiments", EXAMPLE), post("/experiments", EXAMPLE)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.data == second.data
    for name in ("ETag", "Location"):
        assert first.headers[name] == second.headers[name]
    started = [post("/experiments/spring/start", key="k-2") for _ in range(2)]
    assert [s.status_code for s in started] == [200, 200]
    assert api.post("/experiments/spring/start").status_code == 409


def test_events_are_answered_as_before(api, post) -> None:
    api.start()
    decision_id = api.choose()["decision_id"]
    events = {"rewards": [{"decision_id": decision_id, "event_id": "e", "metric": "click"}]}
    answers = [post("/rewards", events) for _ in range(2)]
    assert [a.json["accepted"] for a in answers] == [1, 1]
    assert post("/rewards", events, key="k-2").json["repeated"] == 1
    ids = {"decision_ids": [decision_id]}
    assert [post("/decisions/cancel", ids, key="k-3").json["accepted"] for _ in range(2)] == [1, 1]


def test_answers_that_speak_of_subjects_go_where_one_is_erased(api, post) -> None:
    first = post("/experiments", EXAMPLE, key="k-0")
    api.post("/experiments/spring/start")
    erased = post(CHOOSE, PERSON, key="k-1").json
    other = post(CHOOSE, {"subject_id": "u-2"}, key="k-2").json
    api.post("/subjects/erase", {"subject_id": "u-1"})
    assert post("/experiments", EXAMPLE, key="k-0").data == first.data
    again = post(CHOOSE, {"subject_id": "u-2"}, key="k-2")
    assert (again.status_code, again.json) == (200, other | {"repeat": True})
    anew = post(CHOOSE, PERSON, key="k-1")  # decided anew, as what comes later is
    assert (anew.status_code, anew.json["decision_id"]) == (201, erased["decision_id"])


def test_token_is_never_answered_twice(api, post) -> None:
    body = {"name": "n", "scopes": ["read"]}
    first, second = post("/keys", body), post("/keys", body)
    assert first.json["token"] != second.json["token"]
    assert first.json["key"]["id"] != second.json["key"]["id"]


def test_every_post_that_changes_an_experiment_or_the_log_takes_a_key(api) -> None:
    paths = api.get("/openapi.json").json["paths"]
    with_key = {
        o["post"]["operationId"]
        for o in paths.values()
        if "Idempotency-Key" in [p["name"] for p in o.get("post", {}).get("parameters", ())]
    }
    posts = {o.name for _, o in every_operation() if o.method == "POST"}
    secrets = {"create_key", "rotate_key", "create_connection", "rotate_connection_secrets"}
    secrets |= {"create_tracking_key", "rotate_tracking_key"}
    subjects = {"read_subject_data", "erase_subject_data", "erase_subject"}
    assert posts - with_key == secrets | subjects | {"rewrite_email"}  # which stores nothing
