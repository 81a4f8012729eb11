"""Test keys: their requests are checked and answered, and the database stays what it was."""

import pytest
from sqlalchemy import select

from storage.schema import metadata


def rows(api) -> dict[str, list[tuple]]:
    """Read every table but that of keys, which notes their last use."""
    with api.engine.store.database.reading() as transaction:
        return {
            name: sorted(map(repr, transaction.execute(select(table)).all()))
            for name, table in metadata.tables.items()
            if name != "api_keys"
        }


@pytest.fixture
def token(api) -> str:
    body = {"name": "ci", "scopes": ["choose", "reward", "read"], "dry_run": True}
    made = api.post("/keys", body).json
    assert made["key"]["dry_run"] is True
    return made["token"]


def test_dry_run_key_leaves_no_row(api, token):
    api.start(await_activation=True)
    real = api.choose("u-0")["decision_id"]
    before = rows(api)
    request = {"subject_id": "u-1", "decision_id": "d-1"}
    headers = {"Idempotency-Key": "k-1"}
    one = api.post("/experiments/spring/choose", request, token=token, headers=headers)
    assert (one.status_code, one.json["decision_id"]) == (201, "d-1")
    requests = {"requests": [{"subject_id": "u-2"}, {"subject_id": "u-3", "decision_id": "d-3"}]}
    many = api.post("/experiments/spring/choose/batch", requests, token=token)
    assert many.json["decisions"][1]["decision_id"] == "d-3"
    assert many.json["decisions"][0]["decision_id"]
    for action in ("activate", "cancel"):
        answer = api.post(f"/decisions/{action}", {"decision_ids": ["d-1", real]}, token=token)
        assert answer.json["accepted"] == 2
    rewards = [
        {"decision_id": decision, "event_id": f"e-{decision}", "metric": "click"}
        for decision in ("d-1", real)
    ]
    receipt = api.post("/rewards", {"rewards": rewards}, token=token).json
    assert (receipt["unknown"], receipt["early"]) == (["d-1"], [real])
    assert rows(api) == before


def test_rewards_are_checked_as_those_of_any_key(api, token, problem):
    api.start()
    real = api.choose()["decision_id"]
    good, bad = (
        {"decision_id": real, "event_id": "e-1", "metric": metric} for metric in ("click", "klick")
    )
    faults = problem(api.post("/rewards", {"rewards": [good, bad]}, token=token), 422, "invalid")[
        "errors"
    ]
    assert faults[0]["pointer"] == "/rewards/1/metric"
    answer = api.post("/rewards", {"rewards": [good, bad], "partial": True}, token=token).json
    assert (answer["accepted"], answer["refused"][0]["row"]) == (1, 1)
    assert api.engine.store.log.events(real) == []


def test_test_key_may_not_manage(api, problem):
    body = {"name": "ci", "scopes": ["choose", "manage"], "dry_run": True}
    faults = problem(api.post("/keys", body), 422, "invalid")["errors"]
    assert faults[0]["pointer"] == "/scopes"
