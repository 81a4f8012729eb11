"""Bad input to the API: refused, with the place named, and nothing stored."""

import gzip
import json
from io import BytesIO

import pytest

CHOOSE = "/experiments/spring/choose"
BATCH = "/experiments/spring/choose/batch"
DECLARED = {
    "key": "other",
    "slots": [{"key": "s", "variants": [{"key": "a"}, {"key": "b"}]}],
    "policy": {"name": "uniform", "params": {}},
    "reward": {"metrics": {"click": {}}},
}
BODIES = {
    "/experiments": DECLARED,
    CHOOSE: {"subject_id": "u"},
    BATCH: {"requests": [{"subject_id": "u"}]},
    "/rewards": {"rewards": [{"decision_id": "d", "event_id": "e", "metric": "click"}]},
    "/decisions/activate": {"decision_ids": ["d"]},
    "/decisions/cancel": {"decision_ids": ["d"]},
    "/rewards/withdraw": {"withdrawals": [{"decision_id": "d", "event_id": "e"}]},
    "/keys": {"name": "n", "scopes": ["read"]},
}
POSTS = sorted(BODIES)


@pytest.fixture(scope="module")
def api(make_api):
    """One API with an experiment that runs: what is refused leaves no trace for the next test."""
    with make_api() as new_api:
        new_api.start()
        yield new_api


def test_example_bodies_are_good_before_they_are_spoiled(make_api) -> None:
    with make_api() as fresh:
        fresh.start()
        for path, body in BODIES.items():
            assert fresh.post(path, body).status_code in {200, 201}, path


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"nope", "not JSON"),
        (b"NaN", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": Infinity}', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": 1} {"a": 1}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"\xe9": 1}', "not UTF-8"),
        ("{}".encode("utf-16"), ""),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"[" * 65 + b"]" * 65, "nested"),
    ],
)
def test_body_that_is_not_json_is_malformed(api, problem, path, raw, says) -> None:
    refusal = problem(api.post(path, raw=raw), 400, "malformed")
    assert says in refusal["detail"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("raw", [b"[]", b"3", b'"text"', b"null", b"true", b"1e999", b"[1e999]"])
def test_body_that_is_no_object_is_invalid(api, problem, path, raw) -> None:
    refusal = problem(api.post(path, raw=raw), 422, "invalid")
    assert refusal["errors"][0]["pointer"] in {"", "/0"}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
    ],
)
def test_media_types_other_than_json_are_refused(api, problem, path, content_type) -> None:
    sent = api.post(path, BODIES[path], content_type=content_type)
    refusal = problem(sent, 415, "unsupported-media-type")
    assert "application/json" in refusal["detail"]


def test_the_media_type_may_name_utf_8(api) -> None:
    sent = api.post(CHOOSE, BODIES[CHOOSE], content_type="Application/JSON; Charset=UTF-8")
    assert sent.status_code == 201


def test_compressed_bodies_are_not_taken_so_no_bomb_goes_off(api, problem) -> None:
    bomb = gzip.compress(b" " * 10**7)
    sent = api.post(CHOOSE, raw=bomb, headers={"Content-Encoding": "gzip"})
    problem(sent, 415, "unsupported-media-type")


@pytest.mark.parametrize("path", POSTS)
def test_body_of_ten_megabytes_is_too_large(api, problem, path) -> None:
    refusal = problem(api.post(path, raw=b'{"a":"' + b"x" * 10**7 + b'"}'), 413, "too-large")
    assert refusal["title"]


@pytest.mark.parametrize(("longer", "status"), [(0, 400), (1, 413)])
def test_a_body_that_tells_no_length_is_refused_rather_than_cut(api, longer, status) -> None:
    whole = BytesIO(b"{" + b" " * (api.app.config["MAX_CONTENT_LENGTH"] - 1 + longer))
    sent = api.client.post(
        f"/api/v1{CHOOSE}",
        input_stream=whole,
        content_type="application/json",
        headers={"Authorization": f"Bearer {api.token}", "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert sent.status_code == status


def test_a_query_where_none_is_taken_is_told_so(api, problem) -> None:
    refusal = problem(api.post(f"{CHOOSE}?dry_run=true", BODIES[CHOOSE]), 422, "invalid")
    assert refusal["errors"] == [{"pointer": "/dry_run", "detail": "unknown field; none is taken"}]


# Of two fields of an activation, either will do.
@pytest.mark.parametrize("path", [p for p in POSTS if p != "/decisions/activate"])
def test_a_missing_field_is_named(api, problem, path) -> None:
    for name in BODIES[path]:
        body = {k: v for k, v in BODIES[path].items() if k != name}
        refusal = problem(api.post(path, body), 422, "invalid")
        assert refusal["errors"] == [{"pointer": f"/{name}", "detail": "is required"}]


@pytest.mark.parametrize("path", POSTS)
def test_an_unknown_field_is_named(api, problem, path) -> None:
    refusal = problem(api.post(path, BODIES[path] | {"colour/~": 1}), 422, "invalid")
    assert refusal["errors"][0]["pointer"] == "/colour~1~0"
    assert refusal["errors"][0]["detail"].startswith("unknown field; known are ")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("value", [None, True, 3, -1.5, "text", [], {}, [None], {"a": 1}])
def test_a_value_of_another_type_is_named(api, problem, path, value) -> None:
    for name, good in BODIES[path].items():
        if type(value) is type(good):
            continue
        refusal = problem(api.post(path, BODIES[path] | {name: value}), 422, "invalid")
        assert refusal["errors"][0]["pointer"].startswith(f"/{name}")


@pytest.mark.parametrize("path", POSTS)
def test_a_name_that_comes_twice_is_refused(api, problem, path) -> None:
    body = json.dumps(BODIES[path])
    name, value = next(iter(BODIES[path].items()))
    raw = body[:-1] + f', "{name}": {json.dumps(value)}}}'
    refusal = problem(api.post(path, raw=raw.encode()), 422, "invalid")
    assert refusal["errors"] == [{"pointer": f"/{name}", "detail": "comes twice in one object"}]


def test_a_name_that_comes_twice_is_refused_where_its_first_value_does_not_fit(
    api, problem
) -> None:
    refusal = problem(api.post(CHOOSE, raw=b'{"subject_id": 3, "subject_id": "u"}'), 422, "invalid")
    assert refusal["errors"] == [{"pointer": "/subject_id", "detail": "comes twice in one object"}]


def test_a_name_that_comes_twice_deep_inside_is_found(api, problem) -> None:
    rows = ",".join(f'{{"subject_id": "u-{i}", "context": {{"recency": 1}}}}' for i in range(9_999))
    twice = '{"subject_id": "a\\\\\\": {", "context": {"recency": 1, "recency": 2}}'
    raw = f'{{"requests": [{rows}, {twice}]}}'.encode()
    refusal = problem(api.post(BATCH, raw=raw), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/requests/9999/context/recency"]


ROW = '{"decision_id": "d", "event_id": "e", "metric": "click", "value": N}'
HUGE = [
    (
        CHOOSE,
        '{"subject_id": "u", "context": {"channel": "Web", "recency": N}}',
        "/context/recency",
    ),
    (
        BATCH,
        '{"requests": [{"subject_id": "u", "context": {"recency": N}}]}',
        "/requests/0/context",
    ),
    ("/rewards", f'{{"rewards": [{ROW}]}}', "/rewards/0/value"),
    ("/experiments", '{"key": "o", "floor": N}', "/floor"),
]


@pytest.mark.parametrize(("path", "raw", "pointer"), HUGE)
def test_a_number_that_no_double_holds_is_refused(api, problem, path, raw, pointer) -> None:
    for number in ("1e999", "-1e999", "9" * 400):
        refusal = problem(api.post(path, raw=raw.replace("N", number).encode()), 422, "invalid")
        assert refusal["errors"][0]["pointer"].startswith(pointer)
        assert refusal["errors"][0]["detail"] == "must be a finite number"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"context": {"recency": True}}, "/context/recency"),
        ({"context": {"recency": "3"}}, "/context/recency"),
        ({"context": {"recency": {}}}, "/context/recency"),
        ({"context": {"channel": ["Web"]}}, "/context/channel"),
        ({"context": {"re/cen~cy": 1}}, "/context/re~1cen~0cy"),
        ({"context": [1]}, "/context"),
        ({"subject_id": ""}, "/subject_id"),
        ({"subject_id": "x" * 257}, "/subject_id"),
        ({"subject_id": 7}, "/subject_id"),
        ({"decision_id": ""}, "/decision_id"),
        ({"decision_id": "a b"}, "/decision_id"),
        ({"decision_id": "a\n"}, "/decision_id"),
        ({"decision_id": "\u00e9"}, "/decision_id"),
        ({"decision_id": "x" * 129}, "/decision_id"),
        ({"eligible": {"subject_line": []}}, "/eligible/subject_line"),
        ({"eligible": {"subject_line": ["a", 3]}}, "/eligible/subject_line/1"),
        ({"eligible": {"subject_line": ["z"]}}, "/eligible/subject_line"),
        ({"eligible": {"header": ["a"]}}, "/eligible/header"),
    ],
)
def test_a_request_that_does_not_fit_names_the_place(api, problem, change, pointer) -> None:
    refusal = problem(api.post(CHOOSE, {"subject_id": "u"} | change), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [pointer]
    rows = [{"subject_id": "first"}, {"subject_id": "u"} | change]
    refusal = problem(api.post(BATCH, {"requests": rows}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [f"/requests/1{pointer}"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"value": True}, "/value"),
        ({"value": "1"}, "/value"),
        ({"value": None}, "/value"),
        ({"event_id": ""}, "/event_id"),
        ({"event_id": "a b"}, "/event_id"),
        ({"decision_id": ["d"]}, "/decision_id"),
        ({"metric": 3}, "/metric"),
        ({"occurred_at": "yesterday"}, "/occurred_at"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "/occurred_at"),
        ({"occurred_at": "2026-02-30T00:00:00Z"}, "/occurred_at"),
        ({"occurred_at": 1767225600}, "/occurred_at"),
    ],
)
def test_a_reward_that_does_not_fit_names_the_place(api, problem, change, pointer) -> None:
    good = {"decision_id": "d", "event_id": "e", "metric": "click"}
    refusal = problem(api.post("/rewards", {"rewards": [good, good | change]}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [f"/rewards/1{pointer}"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_moments_at_both_ends_of_the_calendar_are_taken(api, moment) -> None:
    event = {"decision_id": api.choose()["decision_id"], "event_id": "e", "metric": "click"}
    answer = api.post("/rewards", {"rewards": [event | {"occurred_at": moment}]})
    assert answer.status_code == 200
    assert answer.json["accepted"] + len(answer.json["early"]) == 1


@pytest.mark.parametrize(
    ("path", "name", "row"),
    [
        (BATCH, "requests", {"subject_id": "u"}),
        ("/rewards", "rewards", {"decision_id": "d", "event_id": "e", "metric": "m"}),
        ("/decisions/activate", "decision_ids", "d"),
        ("/decisions/cancel", "decision_ids", "d"),
        ("/rewards/withdraw", "withdrawals", {"decision_id": "d", "event_id": "e"}),
    ],
)
def test_batch_of_ten_thousand_rows_is_taken_and_one_more_is_too_many(
    api, problem, path, name, row
) -> None:
    assert api.post(path, {name: [row] * 10_000}).status_code in {200, 201}
    refusal = problem(api.post(path, {name: [row] * 10_001}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [f"/{name}"]
    assert "10000" in refusal["errors"][0]["detail"]


ONE_ARM = [{"key": "s", "variants": [{"key": "a"}]}]
MANY = [{"key": f"s{i}", "variants": [{"key": f"v{j}"} for j in range(10)]} for i in range(3)]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"slots": []}, "/slots"),
        ({"slots": ONE_ARM}, "/slots"),
        ({"slots": MANY}, "/slots"),
        ({"slots": [*ONE_ARM, *ONE_ARM]}, "/slots/1/key"),
        ({"slots": [{"key": "s", "variants": [{"key": "a"}, {"key": "a"}]}]},
         "/slots/0/variants/1/key"),
        ({"slots": [{"key": "s s", "variants": [{"key": "a"}]}]}, "/slots/0/key"),
        ({"slots": [{"key": "s", "kind": "header", "variants": [{"key": "a"}]}]}, "/slots/0/kind"),
        ({"slots": [{"key": "s", "variants": [{"key": "a", "payload": "Hi"}]}]},
         "/slots/0/variants/0/payload"),
        ({"policy": {"name": "best"}}, "/policy/name"),
        ({"policy": {"name": "epsilon_greedy", "params": {"epsilon": 2}}},
         "/policy/params/epsilon"),
        ({"policy": {"name": "epsilon_greedy", "params": {"epsilon": True}}},
         "/policy/params/epsilon"),
        ({"policy": {"name": "epsilon_greedy", "params": {"alpha": 2}}}, "/policy/params/alpha"),
        ({"policy": {"name": "thompson"}, "reward": {"metrics": {"click": {"weight": 5}}}},
         "/policy/name"),
        ({"reward": {"metrics": {}}}, "/reward/metrics"),
        ({"reward": {"metrics": {"click": {"weight": 0}}}}, "/reward/metrics/click/weight"),
        ({"reward": {"metrics": {"click": {"low": 1, "high": 0}}}}, "/reward/metrics/click/high"),
        ({"reward": {"metrics": {"a b": {}}}}, "/reward/metrics/a b"),
        ({"reward": {"metrics": {"click": {}}, "maturity_seconds": 10, "window_seconds": 5}},
         "/reward/maturity_seconds"),
        ({"floor": 0.6}, "/floor"),
        ({"floor": 0.3}, "/floor"),
        ({"holdout": -0.1}, "/holdout"),
        ({"control": {"s": "z"}}, "/control/s"),
        ({"exclude": [{"t": "a"}]}, "/exclude/0/t"),
        ({"exclude": [{"s": "a"}]}, "/slots"),
        ({"forgetting": {}}, "/forgetting"),
        ({"context": [{"name": "x", "kind": "number", "low": 1, "high": 1}]}, "/context/0/high"),
        ({"context": [{"name": "x", "kind": "colour"}]}, "/context/0/kind"),
        ({"context": [{"name": "x", "kind": "category", "values": ["a", "a"]}]},
         "/context/0/values/1"),
        ({"learn_every_seconds": 0}, "/learn_every_seconds"),
        ({"assignment": "both"}, "/assignment"),
        ({"send_within_seconds": 299}, "/send_within_seconds"),
        ({"attribution": "first"}, "/attribution"),
        ({"retention_days": 0}, "/retention_days"),
        ({"retention_days": -1}, "/retention_days"),
        ({"retention_days": 36_501}, "/retention_days"),
        ({"retention_days": 1.5}, "/retention_days"),
        ({"retention_days": "a year"}, "/retention_days"),
        ({"retention_days": True}, "/retention_days"),
        ({"retention_days": 6, "reward": {"metrics": {"click": {}}}}, "/retention_days"),
        ({"retention_days": 1, "forgetting": {"window_seconds": 90_000}}, "/retention_days"),
        ({"retention_days": 30, "policy": {"name": "logistic_thompson"}}, "/retention_days"),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_fit_names_the_place(api, problem, change, pointer) -> None:
    refusal = problem(api.post("/experiments", DECLARED | change), 422, "invalid")
    assert pointer in [e["pointer"] for e in refusal["errors"]]
    assert [e["key"] for e in api.get("/experiments").json["experiments"]] == ["spring"]


def test_every_fault_of_a_declaration_is_told_at_once(api, problem) -> None:
    wrong = {"control": {"s": "z"}, "exclude": [{"t": "a"}], "forgetting": {}}
    refusal = problem(api.post("/experiments", DECLARED | wrong), 422, "invalid")
    places = {e["pointer"] for e in refusal["errors"]}
    assert places == {"/control/s", "/exclude/0/t", "/forgetting"}


def test_an_unknown_choice_lists_what_there_is(api, problem) -> None:
    wrong = {"assignment": "both"}, {"context": [{"name": "x", "kind": "colour"}]}
    details = [
        problem(api.post("/experiments", DECLARED | change), 422, "invalid")["errors"][0]["detail"]
        for change in wrong
    ]
    assert details[0] == "must be 'per_decision' or 'per_subject', not 'both'"
    assert details[1] == "must be 'number' or 'category', not 'colour'"
    refusal = problem(api.get("/experiments?state=asleep"), 422, "invalid")
    assert "'running'" in refusal["errors"][0]["detail"]


def test_an_unknown_address_below_the_api_is_a_problem_not_a_page(api, problem) -> None:
    problem(api.get("/nothing"), 404, "not-found")
    problem(api.post("/experiments/spring/fly"), 404, "not-found")


def test_method_not_allowed_lists_those_that_are(api, problem) -> None:
    answer = api.call("PUT", "/experiments")
    problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) >= {"GET", "POST"}


def test_a_failure_of_ours_tells_nothing_of_its_inside(api, problem, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(api.engine, "results", fail)
    answer = api.get("/experiments/spring/results")
    refusal = problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert refusal["request_id"]


def test_a_request_keeps_the_id_it_came_with_unless_that_is_strange(api) -> None:
    kept = api.get("/experiments", headers={"X-Request-ID": "trace-1.2_3"})
    assert kept.headers["X-Request-ID"] == "trace-1.2_3"
    for strange in ("a b", "x" * 65, "<script>"):
        response = api.get("/experiments", headers={"X-Request-ID": strange})
        assert response.headers["X-Request-ID"] != strange
