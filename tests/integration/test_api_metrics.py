"""What Prometheus reads: each number is of what happened, and each is documented."""

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"


@pytest.fixture
def read(api):
    """Read the metrics, without the number of the process."""

    def read() -> dict[str, float]:
        answer = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.token}"})
        text = re.sub(r',?process="\d+"', "", answer.text)
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (n.rpartition(" ") for n in lines)}

    return read


def by_outcome(metrics: dict[str, float], family: str) -> dict[str, float]:
    """Pick the samples of a family, by their outcome."""
    picked = {}
    for name, value in metrics.items():
        if name.startswith(f"{family}{{") and (outcome := re.search(r'outcome="(\w+)"', name)):
            picked[outcome[1]] = value
    return picked


def test_decisions_are_counted_once_each_by_what_they_were(api, read) -> None:
    api.start(holdout=0.5)
    rows = [{"subject_id": f"u-{i}", "decision_id": f"d-{i}"} for i in range(200)]
    path = "/experiments/spring/choose/batch"
    decisions = api.post(path, {"requests": rows}).json["decisions"]
    held_out = sum(d["holdout"] for d in decisions)
    assert 0 < held_out < 200
    api.post(path, {"requests": rows[:7]})
    api.post(path, {"requests": [{"subject_id": "nobody"}], "dry_run": True})
    api.post(path, {"requests": [{"subject_id": "u", "colour": 1}]})
    single = api.choose("somebody")
    api.post("/experiments/spring/stop", {"ship": {"subject_line": "a"}})
    assert api.choose("late")["shipped"]
    kind = "held_out" if single["holdout"] else "new"
    expected = {"new": 200.0 - held_out, "held_out": held_out, "repeated": 7, "shipped": 1}
    expected[kind] += 1
    assert by_outcome(read(), "bandits_decisions_total") == expected


def test_rewards_are_counted_by_what_became_of_them(api, clock, read) -> None:
    assert set(by_outcome(read(), "bandits_rewards_total").values()) == {0.0}
    api.start()
    decision = api.choose()["decision_id"]
    event = {"decision_id": decision, "event_id": "e", "metric": "click"}
    before = {"occurred_at": "2020-01-01T00:00:00Z"}
    rows = [event, event, event | {"event_id": "f"} | before, event | {"decision_id": "lost"}]
    api.post("/rewards", {"rewards": rows})
    assert read()["bandits_rewards_skewed_total{}"] == 0
    clock.now += 2000
    late = event | {"event_id": "g", "occurred_at": "2100-01-01T00:00:00Z"}
    api.post("/rewards", {"rewards": [late]})
    assert read()["bandits_rewards_skewed_total{}"] == 1
    assert by_outcome(read(), "bandits_rewards_total") == {
        "accepted": 1,
        "repeated": 1,
        "late": 1,
        "unknown": 1,
        "early": 1,
        "unattributed": 0,
        "cancelled": 0,
    }


def test_backlog_metrics_are_told_until_the_fold(api, clock, read) -> None:
    api.start()
    waiting, since = (f'bandits_waiting_{n}{{experiment="spring"}}' for n in ("batches", "seconds"))
    assert (read()[waiting], read()[since]) == (0, 0)
    api.choose("u-1")
    clock.now += 4
    api.choose("u-2")
    assert (read()[waiting], read()[since]) == (2, 4)
    api.engine.learn("spring")
    assert (read()[waiting], read()[since]) == (0, 0)
    assert read()['bandits_policy_version{experiment="spring"}'] == 1
    clock.now += 7  # one second after the first one matures
    assert (read()[waiting], read()[since]) == (1, 1)
    assert read()['bandits_snapshot_age_seconds{experiment="spring"}'] == 7


def test_every_metric_is_in_the_table_for_operators_and_no_other(api) -> None:
    api.start()
    api.choose()
    api.engine.learn("spring")
    answer = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.token}"})
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.MULTILINE))
    rows = re.findall(r"^\| `(bandits_\w+)` \|(.*?)\|", DOCUMENT.read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == set(kinds)
    samples = re.findall(r"^(bandits_\w+?)(?:\{(.*)\})? \S+$", answer.text, re.MULTILINE)
    for name, labels in rows:
        ending = "_count" if kinds[name] == "histogram" else ""
        names = [set(re.findall(r"(\w+)=", text)) for n, text in samples if n == name + ending]
        assert names, f"{name} has no sample"
        assert names[0] == set(re.findall(r"`(\w+)`", labels)), name
