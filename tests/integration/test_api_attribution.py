"""Events by subject and by the id of an email, over the API."""

from datetime import UTC, datetime

import pytest

NOT_IDS = ["", " ", "a b", "<>", "a>b", "\u00e4", "x" * 255]


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@pytest.mark.parametrize("query", ["", "?"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
def test_order_is_reported_by_who_placed_it(api, clock, query, headers) -> None:
    api.start(attribution="last")
    decision = api.choose("ann")["decision_id"]
    clock.now += 60
    order = {"subject_id": "ann", "event_id": "o-1", "metric": "order", "value": 20}
    unknown = order | {"subject_id": "bob", "event_id": "o-2"}
    rows = [row | {"occurred_at": iso(clock.now - 1)} for row in (order, unknown)]
    answer = api.post(f"/rewards{query}", {"rewards": rows}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.json["accepted"], answer.json["unattributed"]) == (1, ["o-2"])
    (event,) = api.get(f"/decisions/{decision}").json["events"]
    assert (event["event_id"], event["value"]) == ("o-1", 20)


def test_order_needs_the_scope_reward_alone(api, clock, problem) -> None:
    api.start(attribution="last")
    api.choose("ann")
    order = {"subject_id": "ann", "event_id": "o-1", "metric": "order"}
    body = {"rewards": [order | {"occurred_at": iso(clock.now)}]}
    problem(api.post("/rewards", body, token=api.key("choose")), 403, "forbidden")
    assert api.post("/rewards", body, token=api.key("reward")).json["accepted"] == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"occurred_at": None}, "/occurred_at"),
        ({"subject_id": ""}, "/subject_id"),
        ({"subject_id": "x" * 257}, "/subject_id"),
        ({"experiment": "no key"}, "/experiment"),
        ({"experiment": "unknown"}, "/experiment"),
        ({"decision_id": "d"}, "/subject_id"),
        ({"original_event_id": ""}, "/original_event_id"),
        ({"subject": "ann"}, "/subject"),
    ],
)
def test_order_that_does_not_fit_names_the_place(api, clock, problem, change, pointer) -> None:
    api.start(attribution="last")
    good = {"subject_id": "ann", "event_id": "e", "metric": "order", "occurred_at": iso(clock.now)}
    refusal = problem(api.post("/rewards", {"rewards": [good, good | change]}), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == [f"/rewards/1{pointer}"]


def test_reward_without_decision_and_subject_is_refused(api, problem) -> None:
    api.start()
    row = {"event_id": "e", "metric": "click"}
    refusal = problem(api.post("/rewards", {"rewards": [row]}), 422, "invalid")
    (fault,) = refusal["errors"]
    assert fault["pointer"] == "/rewards/0/decision_id"
    assert "subject_id" in fault["detail"]


def test_ids_of_emails_are_told_with_activations(api, clock) -> None:
    api.start(await_activation=True)
    one, other = api.choose("ann")["decision_id"], api.choose("bob")["decision_id"]
    email = {"decision_id": other, "message_id": "<mail-1@shop.example>"}
    lost = {"decision_id": "nobody's", "message_id": "mail-2"}
    answer = api.post("/decisions/activate", {"decision_ids": [one], "decisions": [email, lost]})
    assert answer.json == {"accepted": 2, "repeated": 0, "unknown": ["nobody's"], "refused": []}
    again = api.post("/decisions/activate", {"decisions": [email]})
    assert again.json["repeated"] == 1
    log = api.engine.store.log
    assert log.message_decisions(["mail-1@shop.example", "mail-2"]) == {
        "mail-1@shop.example": [other]
    }


def test_key_tells_no_ids_of_emails_of_decisions_of_another(api) -> None:
    api.start()
    decision = api.choose("ann")["decision_id"]
    body = {"decisions": [{"decision_id": decision, "message_id": "mail-1"}]}
    answer = api.post("/decisions/activate", body, token=api.key("choose"))
    assert [row["reason"] for row in answer.json["refused"]] == ["another_key"]
    assert api.engine.store.log.message_decisions(["mail-1"]) == {}


@pytest.mark.parametrize("message_id", NOT_IDS)
def test_id_of_an_email_that_is_none_is_refused(api, problem, message_id) -> None:
    body = {"decisions": [{"decision_id": "d", "message_id": message_id}]}
    refusal = problem(api.post("/decisions/activate", body), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/decisions/0/message_id"]


def test_activation_takes_ten_thousand_rows_of_both_kinds(api, problem) -> None:
    emails = [{"decision_id": "d", "message_id": "m"}] * 6000
    body = {"decision_ids": ["d"] * 4001, "decisions": emails}
    refusal = problem(api.post("/decisions/activate", body), 422, "invalid")
    assert [e["pointer"] for e in refusal["errors"]] == ["/decisions"]


def test_document_says_what_a_reward_requires(api) -> None:
    schema = api.get("/openapi.json").json["components"]["schemas"]["Reward"]
    assert schema["required"] == ["event_id", "metric"]
    assert "default" not in schema["properties"]["decision_id"]
    assert {"subject_id", "experiment", "original_event_id"} <= set(schema["properties"])
