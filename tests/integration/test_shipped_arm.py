"""A stopped experiment goes on sending one arm, and its result becomes final."""

import numpy as np
import pytest
from msgspec import convert

from bandits.engine import Engine
from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import rebuild
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward
from storage import open_store

SENDS = 90


def send(api, n=SENDS, *, clicks=True, **given):
    """Choose for n subjects, who all click unless told otherwise; return the decisions."""
    made = api.engine.choose("spring", [Request(f"{api.clock.now}-{i}", **given) for i in range(n)])
    if clicks:
        api.engine.reward([Reward(str(d.decision_id), "c", "click") for d in made])
    return made


def learn(api, seconds):
    """Let time pass, then learn; return the results without the moment they are of."""
    api.clock.now += seconds
    api.engine.learn("spring")
    return api.engine.results("spring").arms


def ship(api, **named):
    return api.post("/experiments/spring/stop", {"ship": named})


def test_shipped_arm_goes_to_everybody_marked_and_with_a_receipt(api) -> None:
    api.start(holdout=0.5, assignment="per_subject")
    before = {d.decision_id for d in send(api, 40)}
    stopped = ship(api, subject_line="b")
    assert stopped.status_code == 200
    assert (stopped.json["state"], stopped.json["shipped"]) == ("stopped", {"subject_line": "b"})
    subjects = [Request(f"{api.clock.now}-{i}") for i in range(40)]  # all have a decision
    made = api.engine.choose("spring", subjects) + api.engine.choose("spring", subjects)
    assert len({d.decision_id for d in made} | before) == 120
    for d in made:
        assert d.slots["subject_line"]["variant"] == "b"
        assert (d.propensity, d.shipped, d.holdout, d.fallback, d.repeat) == (1, True, *[False] * 3)
    receipt = api.get(f"/decisions/{made[0].decision_id}").json
    assert (receipt["shipped"], receipt["propensities"], receipt["derived"]) == (True, None, None)


def test_decision_id_gets_the_same_answer_before_and_after_the_stop(api) -> None:
    api.start()
    first = api.choose("u", decision_id="x")
    ship(api, subject_line="b")
    assert api.choose("u", decision_id="x") == first | {"repeat": True}
    assert api.choose("v", decision_id="y") | {"repeat": True} == api.choose("v", decision_id="y")
    assert api.choose("v", decision_id="y")["shipped"]


def test_shipped_arm_not_eligible_gives_the_control_as_a_fallback(api) -> None:
    api.start()
    ship(api, subject_line="b")
    decision = api.choose("u", eligible={"subject_line": ["a", "c"]})
    assert decision["slots"]["subject_line"]["variant"] == "a"
    assert decision["fallback"]
    assert decision["shipped"]


@pytest.mark.parametrize("await_activation", [False, True])
def test_shipped_decisions_are_never_learned_from(api, await_activation) -> None:
    api.start(await_activation=await_activation)
    made = send(api, clicks=False)
    if await_activation:
        api.engine.activate([str(d.decision_id) for d in made])
    api.engine.reward([Reward(str(d.decision_id), "c", "click") for d in made])
    learned = learn(api, 11)
    assert sum(a.reward for a in learned) == SENDS, "else this test shows nothing"
    ship(api, subject_line="b")
    shipped = send(api, clicks=False)
    if await_activation:
        api.engine.activate([str(d.decision_id) for d in shipped])
    rewards = [Reward(str(d.decision_id), "c", "click") for d in shipped]
    assert api.engine.reward(rewards).accepted == SENDS
    api.clock.now += 11
    assert api.engine.learn("spring") is None, "nothing that is known changed"
    assert api.engine.results("spring").arms == learned
    assert api.engine.receipt(str(shipped[0].decision_id)).reward == 1
    api.clock.now += 2000
    api.engine.learn("spring")
    told = api.engine.results("spring")
    assert told.closed == SENDS, "every window has closed, those of what was shipped too"
    assert sum(told.health.split.sent) == SENDS


def test_shipped_decisions_after_the_final_result_keep_their_own_window(api) -> None:
    api.start()
    (old,) = send(api, 1, clicks=False)
    ship(api, subject_line="b")
    api.clock.now += 10_000
    assert api.engine.store.experiments.record("spring").closes_at < api.clock.now
    (new,) = send(api, 1, clicks=False)
    clicks = [Reward(str(d.decision_id), "c", "click") for d in (old, new)]
    told = api.engine.reward(clicks)
    assert (told.accepted, told.late) == (1, 1)


def test_a_result_is_final_once_the_last_window_has_closed(api) -> None:
    api.start()
    made = [str(d.decision_id) for d in send(api, clicks=False)]
    answered = api.post("/experiments/spring/stop").json
    assert answered["shipped"] is None
    learn(api, 500)
    api.engine.reward([Reward(d, "c", "click") for d in made[:30]])
    moving = learn(api, 0)
    assert sum(a.reward for a in moving) == 30, "the last window is still open"
    api.clock.now += 501  # it closes after 1,000 seconds
    assert api.engine.reward([Reward(made[50], "c", "click")]).late == 1
    assert api.engine.cancel(made[:5]).accepted == 5
    final = learn(api, 10)  # what the last window held is in the findings now
    assert [(a.sent, a.complete, a.reward) for a in final] == [
        (a.sent, a.complete, a.reward) for a in moving
    ]
    assert learn(api, 500) == final
    with api.engine.store.snapshots.audit("spring") as audit:
        _, stored = load_statistic(audit.record.configuration, audit.snapshot)
        again = rebuild(audit).counts
    assert np.array_equal(stored.reward, again.reward)
    assert np.array_equal(stored.sent, again.sent)


def test_a_late_activation_does_not_reopen_a_result(api) -> None:
    api.start(await_activation=True)
    early, late, never = (str(d.decision_id) for d in send(api, 3, clicks=False))
    api.engine.activate([early])
    api.engine.stop("spring", by="test")
    api.clock.now += 985
    api.engine.activate([late])  # matures just in time
    api.clock.now += 10
    api.engine.activate([never])
    assert sum(a.complete for a in learn(api, 1000)) == 2


@pytest.mark.parametrize(
    ("named", "pointer", "says"),
    [
        ({"subject_line": "z"}, "/ship/subject_line", "unknown variant"),
        ({"body": "x"}, "/ship/body", "unknown slot"),
        ({"subject_line": "c"}, "/ship", "leaves no arm"),
        ({"preheader": "q"}, "/ship", "names 2 arms"),
    ],
)
def test_ship_refuses_arms_that_cannot_be_sent(api, problem, named, pointer, says) -> None:
    lines = [{"key": "a"}, {"key": "b"}, {"key": "c", "paused": True}]
    heads = [{"key": "p"}, {"key": "q"}]
    slots = [
        {"key": "subject_line", "variants": lines},
        {"key": "preheader", "variants": heads},
    ]
    api.start(slots=slots)
    (fault,) = problem(ship(api, **named), 422, "invalid")["errors"]
    assert fault["pointer"] == pointer
    assert says in fault["detail"]
    assert api.get("/experiments/spring").json["state"] == "running"


def test_stop_twice_ships_nothing_else(api, problem) -> None:
    api.start()
    ship(api, subject_line="b")
    problem(ship(api, subject_line="c"), 409, "wrong-state")
    assert api.choose()["slots"]["subject_line"]["variant"] == "b"
    assert api.post("/experiments/spring/archive").status_code == 200
    problem(api.post("/experiments/spring/choose", {"subject_id": "u"}), 409, "wrong-state")


def test_the_audit_log_says_what_is_shipped(api) -> None:
    api.start()
    ship(api, subject_line="b")
    (change,) = api.accounts.changes(subject="experiment:spring", limit=1)
    assert change.after == {"state": "stopped", "ship": {"subject_line": "b"}}


def test_shipped_arm_is_the_same_in_another_process(store, clock, database_url) -> None:

    declared = {
        "key": "spring",
        "slots": [{"key": "subject_line", "variants": [{"key": "a"}, {"key": "b"}]}],
        "policy": {"name": "thompson"},
        "reward": {"metrics": {"click": {}}},
    }
    engine = Engine(store, clock)
    engine.create(convert(declared, Experiment), by="test")
    engine.start("spring", by="test")
    stopped = engine.stop("spring", by="test", ship={"subject_line": "b"})
    other = open_store(database_url)
    try:
        assert other.experiments.record("spring") == stopped
        (decision,) = Engine(other, clock).choose("spring", [Request("u")])
        assert decision.slots["subject_line"]["variant"] == "b"
        assert store.log.decisions([str(decision.decision_id)])[str(decision.decision_id)].shipped
    finally:
        other.close()


@pytest.mark.parametrize(
    ("raw", "status"), [(b"{", 400), (b'{"ship": {}}', 422), (b'{"keep": 1}', 422), (b"", 200)]
)
def test_a_stop_takes_a_sound_body_or_none(api, raw, status) -> None:
    api.start()
    answered = api.post("/experiments/spring/stop", raw=raw)
    assert answered.status_code == status, answered.text
    state = api.get("/experiments/spring").json["state"]
    assert state == ("stopped" if status == 200 else "running")
