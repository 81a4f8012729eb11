"""Decisions and rewards over the API: chosen, repeated, rewarded, cancelled, explained."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from bandits.errors import InvalidInput
from webapp.api.rewards import times_of_numbers


def batch(api, requests, key="spring", **fields):
    return api.post(f"/experiments/{key}/choose/batch", {"requests": requests} | fields)


def test_a_new_decision_is_201_and_says_what_to_send(api) -> None:
    texts = {"a": "Hi", "b": "Yo"}
    variants = [{"key": key, "payload": {"text": text}} for key, text in texts.items()]
    api.start(slots=[{"key": "s", "variants": variants}])
    response = api.post(
        "/experiments/spring/choose",
        {"subject_id": "u-1", "context": {"recency": 3, "channel": "Web"}},
    )
    assert response.status_code == 201
    decision = response.json
    chosen = decision["slots"]["s"]
    assert chosen["payload"]["text"] == texts[chosen["variant"]]
    assert decision["propensity"] == pytest.approx(0.5)
    assert decision["policy_version"] == 0
    assert [decision[k] for k in ("holdout", "fallback", "repeat")] == [False, False, False]


def test_decision_id_again_is_200_and_the_same_answer(api, problem) -> None:
    api.start()
    body = {"subject_id": "u-1", "decision_id": "mine/1", "context": {"recency": 3}}
    first = api.post("/experiments/spring/choose", body)
    again = api.post("/experiments/spring/choose", body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json | {"repeat": True}
    other = body | {"context": {"recency": 4}}
    problem(api.post("/experiments/spring/choose", other), 409, "id-reused")


def test_first_decision_of_a_subject_is_the_decision(api) -> None:
    api.start(assignment="per_subject")
    first = api.choose("u-1")
    again = api.choose("u-1")
    assert again == first | {"repeat": True}
    assert api.choose("u-2")["decision_id"] != first["decision_id"]


def test_a_restriction_is_kept_to(api) -> None:
    api.start()
    for i in range(20):
        decision = api.choose(f"u-{i}", eligible={"subject_line": ["b"]})
        assert decision["slots"]["subject_line"]["variant"] == "b"
        assert decision["propensity"] == 1


def test_a_batch_answers_in_order_and_tells_new_from_repeated(api) -> None:
    api.start()
    requests = [{"subject_id": f"u-{i}", "decision_id": f"d{i}"} for i in range(100)]
    first = batch(api, requests)
    assert first.status_code == 201
    assert [d["decision_id"] for d in first.json["decisions"]] == [f"d{i}" for i in range(100)]
    mixed = batch(api, [*requests[50:], {"subject_id": "new"}])
    assert mixed.status_code == 200
    assert [d["repeat"] for d in mixed.json["decisions"]] == [True] * 50 + [False]


def test_an_empty_batch_is_no_error(api) -> None:
    api.start()
    empty = batch(api, [])
    assert (empty.status_code, empty.json) == (200, {"decisions": [], "refused": []})


def test_a_dry_run_decides_and_records_nothing(api, clock) -> None:
    api.start()
    dry = batch(api, [{"subject_id": "u-1"}, {"subject_id": "u-2"}], dry_run=True)
    assert dry.status_code == 200
    assert [d["decision_id"] for d in dry.json["decisions"]] == [None, None]
    clock.now += 100
    assert api.engine.learn("spring") is None


def test_batch_with_one_bad_row_changes_nothing(api, problem, clock) -> None:
    api.start()
    requests = [{"subject_id": f"u-{i}"} for i in range(10)]
    requests[3] |= {"context": {"recency": "three"}}
    requests[7] |= {"context": {"mood": 1}}
    refusal = problem(batch(api, requests), 422, "invalid")
    places = [e["pointer"] for e in refusal["errors"]]
    assert places == ["/requests/3/context/recency", "/requests/7/context/mood"]
    clock.now += 100
    assert api.engine.learn("spring") is None


def test_the_pointer_of_a_single_choice_is_into_its_own_body(api, problem) -> None:
    api.start()
    path = "/experiments/spring/choose"
    refusal = problem(api.post(path, {"subject_id": "u", "context": {"mood": 1}}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/context/mood"]
    wrong = {"subject_id": "u", "eligible": {"subject_line": ["z"]}}
    refusal = problem(api.post(path, wrong), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/eligible/subject_line"]


def test_rewards_doubled_late_early_and_unknown_are_counted_and_listed(api, clock) -> None:
    api.start()
    one, two, three = (api.choose(f"u-{i}")["decision_id"] for i in range(3))

    def event(decision, event_id="1", **fields):
        return {"decision_id": decision, "event_id": event_id, "metric": "click"} | fields

    long_ago = "2020-01-01T00:00:00+02:00"
    answer = api.post(
        "/rewards",
        {
            "rewards": [
                event(one),
                event(one),
                event(one, "2"),
                event("nobody's"),
                event(two, occurred_at=long_ago),
            ]
        },
    )
    assert answer.status_code == 200
    expected = {"accepted": 2, "repeated": 1, "late": 0}
    listed = {"unknown": ["nobody's"], "early": [two], "refused": [], "unattributed": []}
    assert answer.json == expected | listed | {"skewed": 0, "waiting": 1, "cancelled": 0}
    clock.now += 2000
    answer = api.post("/rewards", {"rewards": [event(one), event(three)]})
    expected = {"accepted": 0, "repeated": 1, "late": 1}
    listed = {"unknown": [], "early": [], "refused": [], "unattributed": []}
    assert answer.json == expected | listed | {"skewed": 0, "waiting": 0, "cancelled": 0}
    api.engine.learn("spring")
    health = api.get("/experiments/spring/results").json["health"]
    assert (health["repeated"], health["late"], health["early"]) == (2, 1, 1)


def test_events_from_the_future_count_as_of_now_and_are_reported(api, clock) -> None:
    api.start()
    decision = api.choose()["decision_id"]

    def event_ahead(ahead):
        at = datetime.fromtimestamp(clock.now + ahead, UTC).isoformat()
        return {
            "decision_id": decision,
            "event_id": str(ahead),
            "metric": "click",
            "occurred_at": at,
        }

    answer = api.post(
        "/rewards",
        {"rewards": [event_ahead(0), event_ahead(299), event_ahead(301), event_ahead(86_400)]},
    )
    counts = {"accepted": 4, "repeated": 0, "late": 0, "skewed": 2}
    listed = {"unknown": [], "early": [], "refused": [], "unattributed": []}
    assert answer.json == counts | listed | {"waiting": 0, "cancelled": 0}
    events = api.get(f"/decisions/{decision}").json["events"]
    now = datetime.fromtimestamp(clock.now, UTC)
    assert {datetime.fromisoformat(e["occurred_at"]) for e in events} == {now}
    again = api.post("/rewards", {"rewards": [event_ahead(86_400)]}).json
    assert (again["repeated"], again["skewed"]) == (1, 1)
    api.engine.learn("spring")
    assert api.get("/experiments/spring/results").json["health"]["skewed"] == 2


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1), ("milliseconds", 1000)])
def test_times_as_numbers_are_read_in_the_unit_of_the_request(api, clock, unit, factor) -> None:
    api.start()
    event = {"decision_id": api.choose()["decision_id"], "event_id": "1", "metric": "click"}
    at = round(clock.now) + 30
    clock.now += 60.0
    rewards = [
        event | {"occurred_at": at * factor},
        event | {"event_id": "2", "occurred_at": (at + 0.25) * factor},
        event | {"event_id": "3", "occurred_at": datetime.fromtimestamp(at, UTC).isoformat()},
        event | {"event_id": "4", "occurred_at": None},
    ]
    answer = api.post("/rewards", {"rewards": rewards, "time_unit": unit})
    assert (answer.status_code, answer.json["accepted"]) == (200, 4)
    stored = api.get(f"/decisions/{event['decision_id']}").json["events"]
    times = {e["event_id"]: datetime.fromisoformat(e["occurred_at"]).timestamp() for e in stored}
    expected = {"1": at, "2": at + 0.25, "3": at, "4": clock.now}
    assert times == {key: pytest.approx(time, abs=1e-3) for key, time in expected.items()}


@pytest.mark.parametrize(
    ("unit", "time", "detail"),
    [
        (None, 1_800_000_000, "unit `time_unit`"),
        (None, 1_800_000_000.5, "unit `time_unit`"),
        ("seconds", 1_800_000_000_000, "must be seconds since 1970"),
        ("milliseconds", 1_800_000_000, "must be milliseconds since 1970"),
        ("milliseconds", 1e300, "must be milliseconds since 1970"),
        ("seconds", -1, "must be seconds since 1970"),
        ("seconds", True, "not true or false"),
        ("seconds", 10**400, "must be seconds since 1970"),
        ("seconds", "1800000000", "as in RFC 3339"),
    ],
)
def test_time_that_is_none_in_its_unit_names_its_field(api, problem, unit, time, detail) -> None:
    api.start()
    event = {"decision_id": api.choose()["decision_id"], "event_id": "1", "metric": "click"}
    rewards = [event, event | {"event_id": "2", "occurred_at": time}]
    body = {"rewards": rewards} | ({} if unit is None else {"time_unit": unit})
    refusal = problem(api.post("/rewards", body), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/rewards/1/occurred_at"]
    assert detail in refusal["errors"][0]["detail"]
    assert api.get(f"/decisions/{event['decision_id']}").json["events"] == []


def test_times_as_numbers_leave_every_other_fault_at_its_place(api, problem) -> None:
    event = {"decision_id": "d", "event_id": "1", "metric": "click", "occurred_at": 1_800_000_000}
    for change, pointer in (
        ({"rewards": [event | {"value": "much"}]}, "/rewards/0/value"),
        ({"rewards": [event | {"valeu": 1}]}, "/rewards/0/valeu"),
        ({"rewards": [event], "time_unit": "hours"}, "/time_unit"),
        ({"rewards": [], "time_unit": "hours"}, "/time_unit"),
        ({"rewards": [event | {"occurred_at": 1e12}], "time_unit": "hours"}, "/time_unit"),
        ({"rewards": [event], "time_unit": {}}, "/time_unit"),
        ({"rewards": [event], "time_unit": []}, "/time_unit"),
    ):
        body = {"time_unit": "seconds"} | change
        refusal = problem(api.post("/rewards", body), 422, "invalid")
        assert [e["pointer"] for e in refusal["errors"]] == [pointer]


def test_times_of_numbers_takes_zero_in_either_unit_and_names_a_hundred_faults() -> None:
    for unit in ("seconds", "milliseconds"):
        body = {"rewards": [{"occurred_at": 0}], "time_unit": unit}
        amended = times_of_numbers(body)
        assert amended["rewards"] == [{"occurred_at": "1970-01-01T00:00:00+00:00"}]
    with pytest.raises(InvalidInput) as refused:
        times_of_numbers({"rewards": [{"as_of": 1}] * 101})
    assert len(refused.value.faults) == 100


@pytest.mark.parametrize("body", [7, [], {"rewards": 7}, {"rewards": [7, None, "text"]}])
def test_times_of_numbers_leaves_a_body_of_another_form_as_it_is(body) -> None:
    assert times_of_numbers(body) is None


def test_latest_value_by_as_of_counts_and_one_without_is_refused_by_its_row(api, problem) -> None:
    metrics = {"click": {}, "margin": {"latest": True, "high": 90.0}}
    api.start(policy={"name": "thompson_gaussian"}, reward={"metrics": metrics})
    margin = {"decision_id": api.choose()["decision_id"], "event_id": "1", "metric": "margin"}
    rewards = [
        margin | {"value": 8, "as_of": 1_800_000_060},
        margin | {"event_id": "2", "value": 5, "as_of": "2027-01-15T08:00:00Z"},
        margin | {"event_id": "3", "value": 9},
    ]
    body = {"rewards": rewards, "time_unit": "seconds"}
    refusal = problem(api.post("/rewards", body), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/rewards/2/as_of"]
    answer = api.post("/rewards", body | {"partial": True}).json
    assert answer["accepted"] == 2
    assert [(r["row"], r["reason"]) for r in answer["refused"]] == [(2, "invalid")]
    receipt = api.get(f"/decisions/{margin['decision_id']}").json
    assert receipt["reward"] == pytest.approx(8.0)
    times = [datetime.fromisoformat(e["as_of"]).timestamp() for e in receipt["events"]]
    assert sorted(times) == pytest.approx([1_800_000_000, 1_800_000_060])
    without = problem(api.post("/rewards", {"rewards": rewards[:1]}), 422, "invalid")
    assert [e["pointer"] for e in without["errors"]] == ["/rewards/0/as_of"]


def test_an_event_id_with_another_value_is_refused_and_nothing_stored(api, problem) -> None:
    api.start()
    decision = api.choose()["decision_id"]
    order = {"decision_id": decision, "event_id": "o", "metric": "order", "value": 20}
    assert api.post("/rewards", {"rewards": [order]}).json["accepted"] == 1
    others = [order | {"value": 30}, order | {"event_id": "p"}]
    problem(api.post("/rewards", {"rewards": others}), 409, "id-reused")
    assert api.get(f"/decisions/{decision}").json["reward"] == pytest.approx(0.02)


def test_a_reward_that_does_not_fit_the_rule_names_its_row(api, problem) -> None:
    api.start()
    decision = api.choose()["decision_id"]
    good = {"decision_id": decision, "event_id": "1", "metric": "click"}
    bad = [good | {"event_id": "2", "metric": "opne"}, good | {"event_id": "3", "value": 7}]
    refusal = problem(api.post("/rewards", {"rewards": [good, *bad]}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/rewards/1/metric", "/rewards/2/value"]
    assert "click, order" in refusal["errors"][0]["detail"]
    assert api.get(f"/decisions/{decision}").json["events"] == []


def test_a_reward_under_the_id_of_a_connection_is_refused(api, problem) -> None:
    """Before: a `reward` key that guessed the id kept the mailer's own event out."""
    api.start()
    event = {"decision_id": api.choose()["decision_id"], "event_id": "1", "metric": "click"}
    forged = event | {"event_id": "connection:mailer:sendgrid:order-1"}
    refusal = problem(api.post("/rewards", {"rewards": [event, forged]}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/rewards/1/event_id"]
    assert "must not begin with `connection:`" in refusal["errors"][0]["detail"]
    partial = api.post("/rewards", {"rewards": [event, forged], "partial": True}).json
    assert (partial["accepted"], [r["row"] for r in partial["refused"]]) == (1, [1])


def test_activation_starts_the_clocks_where_the_experiment_waits_for_it(api, clock) -> None:
    api.start(await_activation=True)
    decision = api.choose()["decision_id"]
    event = {"decision_id": decision, "event_id": "1", "metric": "click"}
    assert api.post("/rewards", {"rewards": [event]}).json["early"] == [decision]
    clock.now += 5000
    answer = api.post("/decisions/activate", {"decision_ids": [decision, "nobody's"]})
    assert answer.json == {"accepted": 1, "repeated": 0, "unknown": ["nobody's"], "refused": []}
    again = api.post("/decisions/activate", {"decision_ids": [decision]})
    assert again.json["repeated"] == 1
    assert api.post("/rewards", {"rewards": [event]}).json["accepted"] == 1


def test_a_cancelled_decision_leaves_what_is_learned_and_frees_its_subject(api, clock) -> None:
    api.start(assignment="per_subject")
    first = api.choose("u-1")["decision_id"]
    clock.now += 11
    api.engine.learn("spring")
    arms = api.get("/experiments/spring/results").json["arms"]
    assert sum(a["complete"] for a in arms) == 1
    answer = api.post("/decisions/cancel", {"decision_ids": [first, first, "nobody's"]})
    assert answer.json == {"accepted": 1, "repeated": 0, "unknown": ["nobody's"], "refused": []}
    api.engine.learn("spring")
    arms = api.get("/experiments/spring/results").json["arms"]
    assert sum(a["sent"] + a["complete"] for a in arms) == 0
    assert api.choose("u-1")["decision_id"] != first
    assert api.get(f"/decisions/{first}").json["cancelled_at"] is not None


def test_a_receipt_derives_the_decision_again(api, clock) -> None:
    api.start(floor=0.1)
    for i in range(30):
        api.choose(f"early-{i}")
    clock.now += 11
    api.engine.learn("spring")
    decision = api.choose("u-1", context={"recency": 6, "channel": "Phone"})
    receipt = api.get(f"/decisions/{decision['decision_id']}").json
    assert receipt["derived"] is True
    assert receipt["policy_version"] == 1
    assert receipt["context"] == {"recency": 6, "channel": "Phone"}
    assert sum(receipt["propensities"].values()) == pytest.approx(1)
    chosen = decision["slots"]["subject_line"]["variant"]
    assert receipt["propensities"][chosen] == decision["propensity"]
    assert 0 <= receipt["uniform"] < 1


@pytest.mark.parametrize(
    "odd_id", ["a/b", "a//b", "100%", "?x=1&y", "#", "~!@$^*()[]{};:'\"<>,.|\\"]
)
def test_ids_may_hold_any_printable_character(api, odd_id) -> None:
    from urllib.parse import quote  # noqa: PLC0415 - as senders have to

    api.start()
    assert api.choose("u-1", decision_id=odd_id)["decision_id"] == odd_id
    receipt = api.get(f"/decisions/{quote(odd_id, safe='')}")
    assert receipt.status_code == 200
    assert receipt.json["decision_id"] == odd_id


@pytest.mark.parametrize("subject", ["\x00", "a\nb", "ünïcödé", "🎉" * 64, " ", "'; DROP TABLE--"])
def test_subjects_may_be_called_anything(api, subject) -> None:
    api.start(assignment="per_subject")
    first = api.choose(subject)
    assert api.choose(subject) == first | {"repeat": True}


def test_an_unknown_decision_is_not_found(api, problem) -> None:
    refusal = problem(api.get("/decisions/nobodys"), 404, "not-found")
    assert "erased" in refusal["detail"]
    assert "retention_days" in refusal["detail"]
    problem(api.get("/decisions/" + "x" * 129), 404, "not-found")


def test_a_context_that_may_not_be_used_is_not_stored(api, problem) -> None:
    api.start(policy={"name": "lints"})
    body = {"context": {"recency": 24, "channel": "Web"}, "decision_id": "mine"}
    choice = api.choose("u-1", personalize=False, **body)
    stored = api.get("/subjects/u-1").json["decisions"][0]["context"]
    unknown = api.choose("u-2")
    assert stored == api.get("/subjects/u-2").json["decisions"][0]["context"]
    assert api.get("/decisions/mine").json["derived"]
    assert choice["propensity"] == pytest.approx(unknown["propensity"])  # nobody is known yet
    again = api.choose("u-1", personalize=False, decision_id="mine")
    assert again == choice | {"repeat": True}
    personalized = api.post("/experiments/spring/choose", {"subject_id": "u-1", **body})
    problem(personalized, 409, "id-reused")


@pytest.mark.parametrize("way", ["choose", "choose/batch"])
def test_a_database_of_an_older_version_is_told_as_that(api, problem, way):
    api.start()
    with api.engine.store.database.writing() as transaction:
        transaction.execute(text("ALTER TABLE decisions DROP COLUMN shipped"))
    request = {"subject_id": "u"}
    body = request if way == "choose" else {"requests": [request]}
    answer = api.post(f"/experiments/spring/{way}", body)
    refusal = problem(answer, 503, "not-upgraded")
    assert answer.headers["Retry-After"] == "60"
    assert "`bandits db upgrade`" in refusal["detail"]
    assert "shipped" not in answer.text


@pytest.mark.parametrize("way", ["choose", "choose/batch"])
def test_a_database_whose_file_is_gone_is_told_as_that(api, problem, way):
    api.start()
    path = Path(api.engine.store.database.engine.url.database)
    api.engine.store.close()  # connections opened from here on look for the file
    moved = path.rename(path.with_suffix(".moved"))
    try:
        request = {"subject_id": "u"}
        body = request if way == "choose" else {"requests": [request]}
        answer = api.post(f"/experiments/spring/{way}", body)
    finally:
        moved.rename(path)
    problem(answer, 503, "no-database")
    assert answer.headers["Retry-After"] == "60"
    assert path.name not in answer.text


def test_withdrawn_event_counts_for_nothing_and_only_its_own_key_takes_it_back(api) -> None:
    api.start()
    decision = api.choose()["decision_id"]
    event = {"decision_id": decision, "event_id": "e", "metric": "click"}
    api.post("/rewards", {"rewards": [event]})
    row = {"decision_id": decision, "event_id": "e"}
    stranger = api.key("reward")
    refusal = api.post("/rewards/withdraw", {"withdrawals": [row]}, token=stranger)
    assert refusal.status_code == 422
    assert [e["pointer"] for e in refusal.json["errors"]] == ["/withdrawals/0/event_id"]
    partial = {"withdrawals": [row], "partial": True}
    answer = api.post("/rewards/withdraw", partial, token=stranger).json
    assert [r["reason"] for r in answer["refused"]] == ["another_key"]
    for counts in ((1, 0), (0, 1)):
        answer = api.post("/rewards/withdraw", {"withdrawals": [row]}).json
        assert (answer["accepted"], answer["repeated"]) == counts
    receipt = api.get(f"/decisions/{decision}").json
    assert (receipt["reward"], receipt["events"][0]["withdrawn"]) == (0.0, True)
    answer = api.post("/rewards/withdraw", {"withdrawals": [row | {"decision_id": "lost"}]}).json
    assert answer["unknown"] == ["lost"]
