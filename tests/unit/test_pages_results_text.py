"""What an experiment's page says of its results: never a leader without the risk of being wrong."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.summary import summarise
from bandits.experiment import Experiment
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.intervals import Family, Interval, NotYet
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.state import InferenceState
from bandits.results import Results
from bandits.segments import Segmentation
from bandits.store.values import ExperimentRecord
from bandits.versions import Configuration
from webapp.pages.experiment.health import health_checks
from webapp.pages.experiment.labels import reward_measure
from webapp.pages.experiment.results_view import BarScale, results_view

DAY = 86_400.0
NAMES = ["Plain", "Question", "Emoji", "Shout", "Name"]


def record(n_arms: int = 2, **changes: Any) -> ExperimentRecord:
    """Make an experiment that started ten days ago."""
    variants = [{"key": f"v{i}", "name": NAMES[i]} for i in range(n_arms)]
    declared = {
        "key": "sale",
        "slots": [{"key": "subject", "variants": variants}],
        "policy": {"name": "uniform"},
        "reward": {"metrics": {"click": {}}, "window_seconds": 2 * DAY, "maturity_seconds": DAY},
        "floor": 0.01,
    }
    settings = {k: changes.pop(k) for k in ("policy", "reward", "context", "floor") if k in changes}
    configuration = Configuration.first(convert(declared | settings, Experiment))
    experiment_record = ExperimentRecord(
        1, "sale", "running", b"salt" * 4, configuration, 0, 0.0, started_at=0.0
    )
    return replace(experiment_record, **changes)


def results(of: ExperimentRecord, clicks: list[int], sends: int) -> Results:
    """Tell of `sends` closed emails an arm, of which so many were clicked."""
    k = len(clicks)
    arms = np.repeat(np.arange(k), sends)
    rewards = np.concatenate([np.arange(sends) < n for n in clicks]).astype(float)
    none = InferenceState.zeros(k, Segmentation(of.configuration.experiment.context).size)
    by_arm = AipwSums.from_decisions(
        np.ones((1, k), dtype=bool),
        np.zeros(k * sends, dtype=np.int64),
        arms,
        rewards,
        np.full(k * sends, 1 / k),
    )
    ratio = SampleRatio.from_draws(arms, np.full(k, 1 / k))
    grounds = dataclasses.replace(none, arms=by_arm, ratio=ratio)
    live = ActivePolicy(of.key, of.salt, of.configuration, None)
    summary = summarise(of, live, grounds, [])
    return replace(
        summary,
        arms=[replace(a, sent=sends, complete=sends, reward=float(n)) for a, n in
              zip(summary.arms, clicks, strict=True)],
    )  # fmt: skip


def said(of: ExperimentRecord, clicks: list[int], sends: int = 10_000, *, days: float = 10.0):
    """Judge results as of so many days after the start."""
    return results_view(of, results(of, clicks, sends), days * DAY).verdict


def test_a_clear_leader_is_named_with_the_risk_of_being_wrong() -> None:
    verdict = said(record(), [800, 1600])
    assert verdict.headline == "“Question” leads: every other version is shown to do worse."
    assert verdict.risk.startswith(
        "Were you to send only “Question” from now on, you would give up"
    )
    assert "at most 5" in verdict.risk
    assert verdict.advice == "You can stop and keep sending it."
    assert verdict.settled
    assert verdict.proof is not None


def test_a_rival_that_could_be_better_is_named_and_what_that_would_cost() -> None:
    verdict = said(record(), [1000, 1040])
    assert verdict.headline == "“Question” leads, but “Plain” could still be better."
    lead = results(record(), [1000, 1040], 10_000).lead
    said_at_most = float(re.search(r"at most ([\d.]+) clicks per 1,000 emails", verdict.risk)[1])
    assert 1000 * lead.at_most <= said_at_most <= 1000 * lead.at_most * 1.1, "never too low"
    assert not verdict.settled


def test_versions_alike_have_no_difference_and_no_leader_of_worth() -> None:
    verdict = said(record(4), [1000, 1010, 1005, 995])
    assert verdict.headline.startswith(
        "No difference is found yet. “Question” is the surest choice"
    )
    assert "give up at most" in verdict.risk


def test_a_high_chance_to_be_best_without_a_lead_is_said_to_be_no_proof() -> None:
    verdict = said(record(), [1000, 1060])
    assert "could still be better" in verdict.headline
    assert "“Question” to be best is 9" in verdict.risk
    assert "no proof" in verdict.risk
    assert "no proof" not in said(record(), [800, 1600]).risk, "a lead is shown, not believed"


def test_small_expected_loss_is_said_to_be_little() -> None:
    verdict = said(record(), [50_000, 50_050], 100_000)
    assert (
        verdict.headline
        == "“Question” leads by little: “Plain” could be better, and it hardly matters."
    )
    assert verdict.settled


def test_advice_waits_for_a_week_however_clear_the_lead() -> None:
    early = said(record(), [800, 1600], days=3)
    assert early.headline.startswith("“Question” leads")
    assert "over a whole week" in early.advice


def test_too_few_results_promise_nothing() -> None:
    verdict = said(record(), [3, 9], 100)
    assert verdict.headline.startswith("Too early to tell")
    assert "cannot be told yet" in verdict.risk


def test_leader_is_not_named_before_a_window_has_closed() -> None:
    summary = results(record(), [800, 1600], 10_000)
    verdict = results_view(record(), replace(summary, lead=None), DAY).verdict
    assert verdict.leader is None
    assert "no comparison holds yet" in verdict.headline
    assert "2 days after an email was sent" in verdict.advice


def test_minimised_metric_is_worded_as_too_many_and_not_as_lost() -> None:
    rule = {"metrics": {"complaint": {}}, "goal": "minimise", "window_seconds": 2 * DAY}
    verdict = said(record(reward=rule), [1600, 1500])
    assert verdict.headline.startswith("“Question” leads")
    assert "you would have at most" in verdict.risk
    assert "too many" in verdict.risk


def test_a_method_that_chooses_by_recipient_has_no_version_for_everybody() -> None:
    personal = {
        "policy": {"name": "linucb"},
        "context": [{"name": "age", "kind": "number", "low": 0, "high": 100}],
    }
    of = record(**personal)
    standing = results_view(
        of, replace(results(of, [800, 1600], 10_000), share_basis="recent"), 10 * DAY
    )
    assert standing.verdict.headline.startswith("It chooses by recipient.")
    assert not standing.results.outlook.shown, "chances to be best would mislead"


@pytest.mark.parametrize(
    ("state", "changes", "sentence"),
    [
        ("paused", {}, "Paused: your sender's requests are refused until you resume. “Question”"),
        ("stopped", {"stopped_at": 9 * DAY}, "Your sender's requests are refused. “Question”"),
        ("stopped", {"stopped_at": 9 * DAY, "shipped": 1}, "Everybody now gets “Question”."),
        (
            "archived",
            {"stopped_at": 9 * DAY, "shipped": 1},
            "Stopped after 20,000 emails. “Question”",
        ),
    ],
)
def test_findings_are_told_in_each_state(state, changes, sentence) -> None:
    verdict = said(record(state=state, **changes), [800, 1600])
    assert sentence in verdict.headline
    assert verdict.risk


def test_a_stopped_result_says_until_when_it_moves_and_that_it_is_final() -> None:
    stopped = record(state="stopped", stopped_at=9 * DAY)
    assert "counted until 2 days after the stop" in said(stopped, [800, 1600]).advice
    assert "This result is final" in said(stopped, [800, 1600], days=12).advice


def test_best_version_is_listed_first_whichever_way_is_better() -> None:
    up = results_view(record(3), results(record(3), [1000, 1600, 1300], 10_000), 10 * DAY)
    assert [row.names[0] for row in up.ranked] == ["Question", "Emoji", "Plain"]
    rule = {"metrics": {"complaint": {}}, "goal": "minimise"}
    of = record(3, reward=rule)
    down = results_view(of, results(of, [1000, 1600, 1300], 10_000), 10 * DAY)
    assert [row.names[0] for row in down.ranked] == ["Plain", "Emoji", "Question"]


def interval(low: float, high: float) -> Interval:
    return Interval(low, high, (low + high) / 2, 0.05, "weighted", Family("values"))


def test_bars_share_a_scale_and_keep_their_order() -> None:
    scale = BarScale.from_findings([interval(0.1, 0.2), interval(0.15, 0.3), None, NotYet("", "")])
    assert scale is not None
    one, other = scale.bar(interval(0.1, 0.2)), scale.bar(interval(0.15, 0.3))
    assert 0 <= one.left < other.left < one.right < other.right <= 100
    assert (one.cut_left, one.cut_right) == (False, False)
    assert BarScale.from_findings([None, NotYet("", "")]) is None


def test_wide_interval_is_drawn_cut_off_and_leaves_the_others_room() -> None:
    narrow = [interval(0.10 + i / 1000, 0.11 + i / 1000) for i in range(5)]
    wide = interval(-2.0, 2.4)
    scale = BarScale.from_findings([*narrow, wide])
    assert scale is not None
    bar = scale.bar(narrow[0])
    assert bar.right - bar.left > 5, "per cent of the column"
    assert (scale.bar(wide).cut_left, scale.bar(wide).cut_right) == (True, True)


def test_a_scale_of_rates_never_begins_below_none() -> None:
    scale = BarScale.from_findings([interval(0.0001, 0.2)])
    assert scale is not None
    assert scale.low == 0
    lifts = BarScale.from_findings([interval(0.1, 0.2)], 0.0)
    assert lifts is not None
    assert lifts.low <= 0, "a lift is read against none"


def checks(**health: Any):
    """List the checks of results whose health is as given."""
    of = record(3)
    summary = results(of, [100, 110, 120], 1000)
    summary = replace(summary, health=replace(summary.health, **health))
    labels = ["Plain", "Question", "Emoji"]
    experiment = of.configuration.experiment
    return {
        c.title: c
        for c in health_checks(experiment, summary, labels, reward_measure(experiment.reward))
    }


def test_a_sound_experiment_has_nothing_to_act_on() -> None:
    assert {c.tone for c in checks(open=0.0, maturing=0.0).values()} <= {"good", "open"}


def test_a_split_that_is_not_as_intended_comes_first_and_says_what_to_do() -> None:
    split = results(record(3), [1, 1, 1], 1000).health.split
    bad = replace(split, sent=[1000, 900, 1100], p_values=[1.0, 1e-9, 1e-9], alarmed=[1, 2])
    found_checks = checks(split=bad)
    first = next(iter(found_checks.values()))
    assert first.tone == "wrong"
    assert "sent 900 times where 1,000 were expected" in first.sentence
    assert "developers" in first.sentence


@pytest.mark.parametrize(
    ("health", "title", "tone"),
    [
        ({"floor": 0.0}, "No minimum share", "watch"),
        ({"least_floor": 0.0}, "Not always a minimum share", "watch"),
        ({"effective_sample_size": [1000.0, 20.0, 1000.0]}, "Few emails weigh much", "watch"),
        ({"repeated": 3, "late": 1}, "Doubled and late events", "open"),
        ({"skewed": 1}, "A clock is wrong", "watch"),
        ({"early": 1}, "Events before their email", "watch"),
        ({"open": 0.4, "maturing": 0.1}, "10 % still maturing", "open"),
        ({"open": 0.4, "maturing": 0.0}, "40 % can still change", "open"),
    ],
)
def test_health_findings_have_a_row_each(health, title, tone) -> None:
    checks_by_title = {t.replace("\u202f", " "): c for t, c in checks(**health).items()}
    assert checks_by_title[title].tone == tone


def test_drift_and_late_clicks_are_told_in_words() -> None:
    calm = results(record(3), [100, 110, 120], 1000).health
    moved = checks(drift=replace(calm.drift, found=True, p_value=0.0, periods=9))
    assert moved["Rates moved"].tone == "watch"
    late = replace(
        calm.late_rewards, share=[0.02, 0.3, None], overall=0.16, differs=True, warn=True
    )
    (row,) = [c for t, c in checks(late_rewards=late).items() if t.startswith("Late clicks")]
    assert row.tone == "watch"
    assert "for Plain to 30.0" in row.sentence
    assert "for Question" in row.sentence
