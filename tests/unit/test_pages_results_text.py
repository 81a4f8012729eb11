"""Results as a page shows them: rows and their order, bars, and checks of health."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.summary import summarise
from bandits.engine.sums import load_inference_state
from bandits.experiment import Experiment
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.intervals import Family, Interval, NotYet
from bandits.inference.sample_ratio import SampleRatio
from bandits.results import EligibleSetCount, Results
from bandits.store.values import ExperimentRecord
from bandits.verdict import Statements, Verdict
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
    none = load_inference_state(of.configuration, None)
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
    summary = summarise(of, live, grounds, [], Statements())
    return replace(
        summary,
        arms=[replace(a, sent=sends, complete=sends, reward=float(n)) for a, n in
              zip(summary.arms, clicks, strict=True)],
    )  # fmt: skip


def test_a_method_that_chooses_by_recipient_shows_no_chances() -> None:
    personal = {
        "policy": {"name": "linucb"},
        "context": [{"name": "age", "kind": "number", "low": 0, "high": 100}],
    }
    of = record(**personal)
    view = results_view(of, results(of, [800, 1600], 10_000), 10 * DAY)
    assert not view.results.outlook.shown, "chances to be best would mislead"


def test_a_version_too_new_to_compare_is_marked_where_others_are_compared() -> None:
    of = record(3)
    summary = results(of, [800, 1600, 0], 10_000)
    partly = Verdict("keep_running", "could_lose", arm=1, rivals=(0,), uncompared=(2,))
    assert results_view(of, replace(summary, verdict=partly), DAY).too_new == {2}
    early = Verdict("keep_running", "not_enough", arm=1, rivals=(0, 2), uncompared=(0, 2))
    assert results_view(of, replace(summary, verdict=early), DAY).too_new == set()


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


FULL = [EligibleSetCount("person:anna@shop.example", 256, 0.75), EligibleSetCount(None, 3, 0.01)]


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
        ({"effective_sample_size": [1000.0, 20.0, 1000.0]}, "Uneven sending", "watch"),
        ({"repeated": 3, "late": 1}, "Duplicate and late events", "open"),
        ({"skewed": 1}, "A clock is wrong", "watch"),
        ({"early": 1}, "Events before their email", "watch"),
        ({"open": 0.4, "maturing": 0.1}, "40 % of the results may still change", "open"),
        ({"effective_sample_size": [1000.0, 400.0, 1000.0]}, "Uneven sending", "open"),
        ({"effective_sample_size": [1000.0, 600.0, 1000.0]}, "Sent evenly enough", "good"),
        ({"resummed": 0.4}, "Being computed anew", "open"),
        ({"left_out": 30}, "Older emails left out", "open"),
        ({"eligible_sets": [EligibleSetCount(None, 3, 0.01)]}, "Restricted emails", "open"),
        ({"eligible_sets": FULL}, "Restrictions nearly used up", "watch"),
    ],
)
def test_health_findings_have_a_row_each(health, title, tone) -> None:
    checks_by_title = {t.replace("\u202f", " "): c for t, c in checks(**health).items()}
    assert checks_by_title[title].tone == tone


def test_drift_and_late_clicks_are_told_in_words() -> None:
    calm = results(record(3), [100, 110, 120], 1000).health
    moved = checks(levels=replace(calm.levels, found=True, p_value=0.0, periods=9))
    assert moved["Rates moved"].tone == "watch"
    assert moved["Steady comparisons"].tone == "open", "no week is over"
    moved = checks(lifts=replace(calm.lifts, found=True, p_value=0.0, periods=4))
    assert moved["Comparisons moved"].tone == "watch"
    steady = checks(lifts=replace(calm.lifts, periods=4), levels=replace(calm.levels, periods=30))
    assert "the first 4 weeks" in steady["Comparisons look steady"].sentence
    assert "over 30 periods" in steady["Rates look steady"].sentence
    late = replace(
        calm.late_rewards, share=[0.02, 0.3, None], overall=0.16, differs=True, warn=True
    )
    (row,) = [c for t, c in checks(late_rewards=late).items() if t.startswith("Late clicks")]
    assert row.tone == "watch"
    assert "for Plain to 30.0" in row.sentence
    assert "for Question" in row.sentence


def test_late_clicks_are_told_before_any_window_closes() -> None:
    calm = results(record(3), [100, 110, 120], 1000).health.late_rewards
    late = replace(calm, overall=None, so_far=0.4, warn=True)
    (row,) = [c for t, c in checks(late_rewards=late).items() if t.startswith("Late clicks")]
    assert row.tone == "watch"
    assert "Already 40.0" in row.sentence.replace("\u202f", " ")
    assert "wait longer before" in row.sentence
