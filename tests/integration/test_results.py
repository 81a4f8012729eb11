"""What results say of a log: findings on what has closed, and the health of the rest."""

import dataclasses
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from bandits.engine import Engine
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.findings import Analysis
from bandits.engine.sums import load_inference_state
from bandits.experiment import Experiment
from bandits.inference.overlap import OverlapSums
from bandits.inference.state import InferenceState
from bandits.schemas import Request, Reward
from storage.snapshots.verify import compare

DECLARED = {
    "policy": {"name": "uniform"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 100.0, "maturity_seconds": 10.0},
}


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def engine(store, now) -> Engine:
    return Engine(store, lambda: now[0])


def send(engine, n, **given):
    requests = [Request(f"u-{engine.clock()}-{i}", **given) for i in range(n)]
    return [str(d.decision_id) for d in engine.choose("spring", requests)]


def click(engine, ids, event_id="e"):
    return engine.reward([Reward(i, event_id, "click") for i in ids])


def analysis_of(engine):
    """Read the newest sums as results do."""
    record = engine.store.experiments.record("spring")
    snapshot = engine.store.snapshots.snapshot("spring", record.learned_version)
    configuration = record.configuration
    active = ActivePolicy.restore(record, configuration, snapshot, lambda _: configuration)
    return Analysis(active, load_inference_state(configuration, snapshot))


def proven(engine):
    """Read results, after seeing that the log says the same of what they rest on."""
    with engine.store.snapshots.audit("spring") as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    return engine.results("spring")


def test_a_decision_counts_for_findings_once_its_window_is_over(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 30)
    now[0] += 20
    engine.learn("spring")
    early = proven(engine)
    assert (sum(a.complete for a in early.arms), early.closed) == (30, 0)
    assert early.arms[0].value.reason == "No email's results are final yet."
    assert (early.health.maturing, early.health.open) == (0.0, 1.0)
    click(engine, ids[:12])
    now[0] += 100
    engine.learn("spring")
    later = proven(engine)
    assert (later.closed, later.health.open) == (30, 0.0)
    assert later.health.split.sent == [a.sent for a in later.arms]
    assert later.health.split.expected == pytest.approx([10.0] * 3)
    assert later.health.late_rewards.overall == 1.0  # all of it came after maturity
    assert later.health.late_rewards.warn
    assert sum(later.health.effective_sample_size) == pytest.approx(30)


def test_cancellation_after_the_window_leaves_every_finding(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 30)
    click(engine, ids)
    now[0] += 200
    engine.learn("spring")
    engine.cancel(ids[:20])
    engine.learn("spring")
    results = proven(engine)
    assert results.closed == sum(results.health.split.sent) == 10
    assert sum(results.health.split.expected) == pytest.approx(10)


def test_a_reward_reported_after_the_window_but_earned_within_it_still_counts(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 9)
    now[0] += 200
    engine.learn("spring")
    earned_at = datetime.fromtimestamp(1050, UTC)
    engine.reward([Reward(i, "e", "click", occurred_at=earned_at) for i in ids[:4]])
    engine.learn("spring")
    assert sum(a.reward for a in proven(engine).arms) == 4
    assert click(engine, ids[4:], "f").late == 5


def test_data_quality_counts_are_counted_once(engine, sender, now):
    context = [{"kind": "number", "name": "age", "low": 0, "high": 10}]
    sender.start(**DECLARED, context=context)
    ids = send(engine, 6, context={"age": 50})
    ids += send(engine, 4, context={})
    for _ in range(3):
        click(engine, ids[:2])
    now[0] += 200
    click(engine, ids[:5], "later")
    for _ in range(2):
        engine.learn("spring")
        health = engine.results("spring").health
        assert (health.clipped, health.unknown, health.missing) == (6, 0, 4)
        assert (health.repeated, health.late) == (4, 5)


def test_awaiting_decisions_are_checked_too(engine, sender, now):
    context = [{"kind": "category", "name": "channel", "values": ["Web"]}]
    sender.start(**DECLARED, context=context, await_activation=True)
    ids = send(engine, 6, context={"channel": "Fax"})
    engine.learn("spring")
    assert engine.results("spring").health.unknown == 6
    assert sum(a.sent for a in engine.results("spring").arms) == 0
    engine.activate(ids[:4])
    now[0] += 200
    engine.learn("spring")
    results = proven(engine)
    assert (results.closed, results.health.unknown) == (4, 6)
    assert [s.closed for s in results.features[0].segments] == [0, 4]


def test_segments_tell_apart_what_recipients_are(engine, sender, now):
    context = [
        {"kind": "category", "name": "channel", "values": ["Web", "Phone"]},
        {"kind": "number", "name": "age", "low": 0, "high": 100},
    ]
    sender.start(**DECLARED, context=context)
    web = send(engine, 40, context={"channel": "Web", "age": 10})
    now[0] += 1
    send(engine, 20, context={"channel": "Phone", "age": 90})
    click(engine, web)
    now[0] += 200
    engine.learn("spring")
    channel, age = proven(engine).features
    assert [(s.label, s.closed, s.mean) for s in channel.segments] == [
        ("Web", 40, 1.0),
        ("Phone", 20, 0.0),
        (None, 0, None),
    ]
    assert [(s.label, s.closed) for s in age.segments] == [
        ("0 to 25", 40),
        ("25 to 50", 0),
        ("50 to 75", 0),
        ("75 to 100", 20),
    ]
    assert channel.family == age.family
    assert channel.family.comparisons == (3 + 4) * 2


def test_a_lift_is_judged_among_those_who_could_get_both(engine, sender, now):
    sender.start(**DECLARED, floor=0.01)
    for _ in range(4):
        now[0] += 1
        ids = send(engine, 200, eligible={"subject": ["a", "b"]})
        click(engine, ids[:120])
    send(engine, 10, eligible={"subject": ["c"]})
    now[0] += 200
    engine.learn("spring")
    results = proven(engine)
    assert results.arms[1].lift.measurable
    assert not results.arms[2].lift.measurable
    assert results.health.split.expected == pytest.approx([400, 400, 10])


def test_minimised_metric_has_the_least_as_leader_and_what_was_avoided_as_gain(engine, sender, now):
    rule = DECLARED["reward"] | {"goal": "minimise"}
    sender.start(policy={"name": "thompson"}, reward=rule, floor=0.1)
    for _ in range(6):
        made = engine.choose("spring", [Request(f"{now[0]}-{i}") for i in range(400)])
        bad = [str(d.decision_id) for d in made if d.slots["subject"]["variant"] != "c"]
        click(engine, bad[::2])
        now[0] += 200
        engine.learn("spring")
    results = proven(engine)
    assert (results.goal, results.lead.arm, results.lead.leads) == ("minimise", 2, True)
    assert results.arms[2].value.estimate < results.arms[0].value.estimate
    assert results.arms[2].lift.high < 0
    assert results.gain.over_equal_split.low > 0
    assert results.arms[2].chance_best > 0.99


def test_decisions_without_a_floor_count_against_intervals_once_there_is_one(engine, sender, now):
    record = sender.start(**DECLARED, floor=0.0)
    click(engine, send(engine, 300)[:150])
    declared = record.configuration.experiment
    later = replace(declared, floor=0.05)
    engine.edit("spring", later, version=record.configuration.version, by="test")
    now[0] += 2
    click(engine, send(engine, 300)[:150])
    now[0] += 200
    engine.learn("spring")
    mixed = proven(engine)
    assert (mixed.health.floor, mixed.health.least_floor) == (0.05, 0.0)
    assert "whenever a counted email was chosen" in mixed.gain.over_equal_split.reason
    assert mixed.arms[1].lift.promise == "overlap"  # its weights have a bound without a floor


@pytest.mark.parametrize("assignment", ["per_subject", "per_decision"])
def test_emails_of_the_control_group_are_emails_of_the_control(engine, sender, now, assignment):
    sender.start(**DECLARED | {"policy": {"name": "thompson"}}, holdout=0.4, assignment=assignment)
    pair, expected = [0.0, 0.0], 0.0
    for wave in range(3):
        requests = [Request(f"u-{wave}-{i}") for i in range(800)]
        made = engine.choose("spring", requests)
        click(engine, [str(d.decision_id) for d in made][::3])
        shares = [a.share_now for a in engine.results("spring").arms]
        control, other = 0.4 + 0.6 * shares[0], 0.6 * shares[1]
        got = [(d.holdout or d.slots["subject"]["variant"] == "a") for d in made]
        is_other = [d.slots["subject"]["variant"] == "b" and not d.holdout for d in made]
        pair[0] += sum(got) * other / (control + other)
        pair[1] += sum(is_other) * control / (control + other)
        expected += len(made) * control * other / (control + other)
        now[0] += 200
        engine.learn("spring")
    results = proven(engine)
    record = engine.store.experiments.record("spring")
    snapshot = engine.store.snapshots.snapshot("spring", record.learned_version)
    sums = load_inference_state(record.configuration, snapshot).group_overlap
    own, beside = sums.comparisons.places[-1, 0, 1], sums.comparisons.places[-1, 1, 0]
    assert sums.decisions == 2400
    assert sums.sums[1, [own, beside]] == pytest.approx(pair)
    assert sums.sums[6, [own, beside]] == pytest.approx([expected, expected])
    assert results.arms[1].lift.promise == "overlap"


@pytest.mark.parametrize("returning", [False, True])
def test_emails_of_a_control_group_that_returns_are_not_the_controls(
    engine, sender, now, returning
):
    sender.start(**DECLARED | {"policy": {"name": "thompson"}}, holdout=0.4)
    for wave in range(4):
        name = "u" if returning else f"u-{wave}"
        made = engine.choose("spring", [Request(f"{name}-{i}") for i in range(800)])
        click(engine, [str(d.decision_id) for d in made if d.holdout][::2])
        click(engine, [str(d.decision_id) for d in made if not d.holdout][::3])
        now[0] += 200
        engine.learn("spring")
    results = proven(engine)
    record = engine.store.experiments.record("spring")
    snapshot = engine.store.snapshots.snapshot("spring", record.learned_version)
    state = load_inference_state(record.configuration, snapshot)
    estimates = []
    for sums in (state.group_overlap, state.overlap):
        places = sums.comparisons.places
        sides = sums.sums[:, [places[-1, 1, 0], places[-1, 0, 1]]]
        own, of_control = sides[2] / sides[1]
        estimates.append(own - of_control)
    assert results.arms[1].lift.estimate == pytest.approx(estimates[returning])
    assert estimates[0] != pytest.approx(estimates[1])  # the held out click half as often again


def test_lift_in_a_segment_has_the_control_group_as_well(engine, sender, now):
    plan = {"kind": "category", "name": "plan", "values": ["free", "paid"]}
    declared = DECLARED | {"context": [plan], "assignment": "per_subject"}
    sender.start(**declared, holdout=0.4)
    for wave in range(2):
        plans = ("free", "paid") * 600
        requests = [Request(f"u-{wave}-{i}", {"plan": p}) for i, p in enumerate(plans)]
        made = engine.choose("spring", requests)
        click(engine, [str(d.decision_id) for d in made if d.holdout][::2])
        click(engine, [str(d.decision_id) for d in made if not d.holdout][::3])
        now[0] += 200
        engine.learn("spring")
    results, analysis = proven(engine), analysis_of(engine)
    sums = analysis.inference.group_segment_overlap
    for row, of_segment in zip(results.features[0].segments[:2], sums.sums, strict=False):
        places = sums.comparisons.places
        own, of_control = of_segment[:, [places[0, 1, 0], places[0, 1, 1]]][1:3]
        expected = of_control[0] / own[0] - of_control[1] / own[1]
        lift = next(x.lift for x in row.lifts if x.variant == "b")
        assert lift.estimate == pytest.approx(expected)
        assert lift.promise == "overlap"


def test_lift_is_over_all_emails_where_the_shares_of_most_are_unknown(engine, sender, now):
    sender.start(**DECLARED, floor=0.05)
    click(engine, send(engine, 600)[::2])
    now[0] += 200
    engine.learn("spring")
    analysis = analysis_of(engine)
    assert analysis.lifts[1].promise == "overlap"
    few = OverlapSums(
        analysis.inference.overlap.comparisons,
        np.asarray(0.4 * analysis.closed.sum()),
        analysis.inference.overlap.sums,
    )
    removed = dataclasses.replace(analysis.inference, overlap=few)
    assert Analysis(analysis.active, removed).lifts[1].promise == "weighted"
    assert Analysis(analysis.active, analysis.inference, resumming=True).overlap is None


def test_lift_of_a_policy_that_decides_by_recipient_is_over_all_emails(engine, sender, now):
    feature = {"kind": "number", "name": "age", "low": 0, "high": 4}
    declared = DECLARED | {"policy": {"name": "linucb"}, "context": [feature]}
    sender.start(**declared, floor=0.05)
    click(engine, send(engine, 600, context={"age": 1.0})[::2])
    now[0] += 200
    engine.learn("spring")
    assert proven(engine).arms[1].lift.promise == "weighted"
    record = engine.store.experiments.record("spring")
    snapshot = engine.store.snapshots.snapshot("spring", record.learned_version)
    assert load_inference_state(record.configuration, snapshot).overlap.decisions == 0


def test_an_interval_says_whether_a_recipient_may_count_twice(engine, sender):
    sender.start(**DECLARED)
    sender.start("autumn", **DECLARED, assignment="per_subject")
    for key, said in (("spring", "gets several"), ("autumn", "has one decision")):
        for guarantee in engine.results(key).guarantees.values():
            assert said in guarantee.conditions[-1]


def test_inference_state_of_an_older_form_is_known_to_be_lacking(engine, sender, now):
    sender.start(**DECLARED)
    send(engine, 30)
    now[0] += 200
    engine.learn("spring")
    kept = engine.store.snapshots.snapshot("spring", 1)
    assert not InferenceState.is_missing(kept.inference_state)
    older = msgspec.msgpack.encode([1, *msgspec.msgpack.decode(kept.inference_state)[1:-1]])
    assert InferenceState.is_missing(older)
    assert InferenceState.is_missing(b"")


def test_chances_to_be_best_are_among_versions_that_were_sent(engine, sender, now):
    record = sender.start(**DECLARED, floor=0.01)
    click(engine, send(engine, 300)[:90])
    variants = [{"key": v} for v in "abcd"]
    plain = msgspec.to_builtins(record.configuration.experiment)
    plain["slots"] = [{"key": "subject", "variants": variants}]
    wider = msgspec.convert(plain, Experiment)
    engine.edit("spring", wider, version=record.configuration.version, by="test")
    now[0] += 200
    engine.learn("spring")
    results = engine.results("spring")
    assert results.outlook.shown
    assert results.arms[3].chance_best is results.arms[3].expected_loss is None
    assert results.slots[0].variants[3].chance_best is None
    assert sum(a.chance_best for a in results.arms[:3]) == pytest.approx(1)


def test_chances_to_be_best_are_none_while_one_version_alone_was_sent(engine, sender, now):
    sender.start(**DECLARED, floor=0.01)
    send(engine, 30, eligible={"subject": ["b"]})
    now[0] += 200
    engine.learn("spring")
    results = engine.results("spring")
    assert not results.outlook.shown
    assert results.outlook.note.startswith("Only one version has final results")
    assert [a.chance_best for a in results.arms] == [None] * 3


def test_chances_to_be_best_are_equal_where_nobody_clicked(engine, sender, now):
    sender.start(**DECLARED, floor=0.01)
    send(engine, 300)
    now[0] += 200
    engine.learn("spring")
    chances = [a.chance_best for a in engine.results("spring").arms]
    assert chances == pytest.approx([1 / 3] * 3, abs=0.01)


def test_late_rewards_are_told_before_any_window_closes(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 300)
    click(engine, ids[:40])
    now[0] += 20
    engine.learn("spring")
    assert proven(engine).health.late_rewards.so_far == 0.0
    click(engine, ids[40:100])
    engine.learn("spring")
    late = proven(engine).health.late_rewards
    assert (late.overall, late.so_far, late.warn) == (None, 0.6, True)
    engine.cancel(ids[40:100])
    engine.learn("spring")
    late = proven(engine).health.late_rewards
    assert (late.so_far, late.warn) == (0.0, False)


def test_few_late_rewards_are_no_reason_to_warn(engine, sender, now):
    sender.start(**DECLARED)
    ids = send(engine, 30)
    now[0] += 20
    engine.learn("spring")
    click(engine, ids[:2])
    engine.learn("spring")
    late = proven(engine).health.late_rewards
    assert (late.so_far, late.warn) == (1.0, False)


AGE = {"kind": "number", "name": "age", "low": 0.0, "high": 99.0, "default": 0.0}


@pytest.mark.parametrize("policy", ["uniform", "linucb"])
def test_tastes_that_cross_move_levels_and_lifts(engine, sender, now, policy):
    features = [AGE] if policy == "linucb" else []
    sender.start(**(DECLARED | {"policy": {"name": policy}, "context": features, "floor": 0.15}))
    for day in range(14):
        now[0] = day * 86_400.0
        context = {feature["name"]: 40.0 for feature in features}
        requests = [Request(f"{day}-{i}", context=context) for i in range(300)]
        decisions = engine.choose("spring", requests)
        rates = {"a": 0.5 - 0.03 * day, "b": 0.1 + 0.03 * day, "c": 0.1 + 0.03 * day}
        hits = [
            str(d.decision_id)
            for i, d in enumerate(decisions)
            if (i * 0.618) % 1 < rates[d.slots["subject"]["variant"]]
        ]
        click(engine, hits)
        now[0] += 200
        engine.learn("spring")
    engine.cancel(hits[:10])
    engine.learn("spring")
    health = proven(engine).health
    assert (health.levels.found, health.lifts.found) == (True, True)
    assert (health.levels.periods, health.lifts.periods) == (14, 2)
    assert health.drift == health.levels
