"""Questions that people ask: a measured answer, a simulated one that says so, or none yet."""

import re
from typing import Any

import numpy as np
import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.interactions import interaction_weights
from bandits.engine.analysis.summary import summarise
from bandits.engine.sums import load_inference_state
from bandits.experiment import Experiment
from bandits.inference.intervals import Family, Interval, NotYet
from bandits.results import Gain, Interaction, InteractionResult, Results
from bandits.store.values import ExperimentRecord
from bandits.verdict import Statements, Verdict
from bandits.versions import Configuration
from webapp.pages.experiment.questions import Answer, answer_questions

FAMILY = Family("gains")
SPLIT, GROUP, TEST, PARTS, DROP = range(5)


def interval(low: float, high: float) -> Interval:
    return Interval(low, high, (low + high) / 2, 0.05, "weighted", FAMILY)


def record(**changes: Any) -> ExperimentRecord:
    """Make a campaign of two subject lines and two discounts."""
    declared: dict[str, Any] = {
        "key": "sale",
        "slots": [
            {
                "key": "subject_line",
                "kind": "subject_line",
                "variants": [{"key": "a", "name": "Plain"}, {"key": "b", "name": "Question"}],
            },
            {
                "key": "discount",
                "kind": "discount",
                "variants": [
                    {"key": "d0", "payload": {"percent": 0}},
                    {"key": "d10", "payload": {"percent": 10}},
                ],
            },
        ],
        "policy": {"name": "uniform"},
        "reward": {"metrics": {"click": {}}},
    }
    configuration = Configuration.first(convert(declared | changes, Experiment))
    return ExperimentRecord(1, "sale", "running", b"salt" * 4, configuration, 0, 0.0, 0.0)


def results(of: ExperimentRecord, **changes: Any) -> Results:
    """Make results of 10,000 final emails a version, the second of which earns most."""
    active = ActivePolicy(of.key, of.salt, of.configuration, None)
    empty = summarise(of, active, load_inference_state(of.configuration, None), [], Statements())
    rates = (0.10, 0.14, 0.10, 0.11)
    arms = [
        replace(a, closed=10_000, value=interval(rate - 0.01, rate + 0.01))
        for a, rate in zip(empty.arms, rates, strict=True)
    ]
    standard = {
        "closed": 40_000,
        "arms": arms,
        "health": replace(empty.health, effective_sample_size=[10_000.0] * 4),
        "gain": Gain(interval(250, 450), interval(-20, 45)),
        "verdict": Verdict("ship", "leads", 1, leads=True, at_most=0.0, recent="agrees"),
        "interactions": dependency(interval(0.003, 0.021)),
    }
    return replace(empty, **standard | changes)


def dependency(lift: Any) -> InteractionResult:
    return InteractionResult([Interaction("subject_line", "b", "discount", "d10", lift)], FAMILY)


def answers(*, of: ExperimentRecord | None = None, **changes: Any) -> list[Answer]:
    of = of or record()
    found = answer_questions(of, results(of, **changes))
    return [replace(a, answer=a.answer.replace("\u202f", " ")) for a in found]


def test_answers_name_what_was_gained_and_how_sure_that_is() -> None:
    gained = answers()[SPLIT]
    assert gained.answer == "Yes: 350 clicks more (between 250 and 450, 95 % sure)."
    assert gained.kind == "measured"
    less = answers(gain=Gain(interval(-90, -10), None))
    assert less[SPLIT].answer == "No: 50 clicks fewer (between −90 and −10, 95 % sure)."
    assert less[GROUP].answer == "Cannot be told: this campaign has no control group."


def test_answers_never_decide_what_may_be_nothing() -> None:
    open_answer = answers()[GROUP]
    assert open_answer.kind == "open"
    assert open_answer.answer.startswith("Cannot be told yet. The difference is between −20 and 45")
    early = answers(gain=Gain(NotYet("Not enough yet.", "x"), None))[SPLIT]
    assert (early.kind, early.answer) == ("open", "Cannot be told yet. Not enough yet.")


def test_answer_on_an_ab_test_is_labelled_as_simulated() -> None:
    ab_test = answers()[TEST]
    assert ab_test.kind == "simulated"
    assert "By simulation, an A/B test on" in ab_test.answer
    assert (
        "Both compare with sending every version equally, at the rates measured here."
        in ab_test.answer
    )
    extra = 40_000 * (0.14 - 0.1125)
    numbers = re.search(r"about ([\d,]+) clicks \(between ([\d,]+) and ([\d,]+)", ab_test.answer)
    mean, low, high = (float(n.replace(",", "")) for n in numbers.groups())
    assert 0.5 * extra < mean < extra, "no test earns more than to know the best from the start"
    assert low < 0.95 * mean < 1.05 * mean < high, "as uncertain as the rates are"
    assert ab_test.answer.startswith("Probably not."), "350 clicks are less than such a test earns"
    more = answers(gain=Gain(interval(1300, 1400), None))[TEST]
    assert more.answer.startswith("Probably yes.")


def test_answer_on_an_ab_test_is_open_where_it_cannot_be_simulated() -> None:
    rule = {"metrics": {"order": {"count": "sum", "high": 500.0}}}
    of = record(reward=rule, policy={"name": "thompson_gaussian"})
    assert answers(of=of)[TEST].kind == "open"
    early = Gain(NotYet("Not enough yet.", "x"), None)
    assert answers(gain=early)[TEST].answer == "Cannot be told yet."


@pytest.mark.parametrize(
    ("lift", "kind", "words"),
    [
        (interval(0.003, 0.021), "measured", "“Question” gains 12 clicks per 1,000 emails more"),
        (interval(-0.021, -0.003), "measured", "per 1,000 emails less over “Plain” than with"),
        (interval(-0.004, 0.009), "measured", "by at most about 9 clicks per 1,000 emails"),
        (NotYet("a", "b"), "open", "Cannot be told yet."),
    ],
)
def test_answer_on_two_parts_says_by_how_much_one_depends_on_the_other(lift, kind, words) -> None:
    answer = answers(interactions=dependency(lift))[PARTS]
    assert answer.question == "Does the best subject line depend on the discount?"
    assert answer.kind == kind
    assert words in answer.answer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "“Plain · 0 % off”, “Question · 0 % off” and “Question · 10 % off” earned less"),
        ({"rivals": (0, 2, 3), "leads": False}, "None yet"),
        ({"uncompared": (3,)}, "“Plain · 0 % off” and “Question · 0 % off” earned less"),
        ({"recent": "contradicts"}, "Cannot be told yet."),
        ({"lifts_move": True}, "Cannot be told yet."),
        ({"against": "policy"}, "may be best for some recipients"),
    ],
)
def test_answer_on_versions_to_drop_follows_the_verdict(changes, words) -> None:
    verdict = replace(results(record()).verdict, **changes)
    assert words in answers(verdict=verdict)[DROP].answer


def test_answers_wait_for_final_results_that_can_be_trusted() -> None:
    assert answers(closed=0) == []
    assert answers(verdict=Verdict("check_health", "split", 1, at_most=0.0)) == []


def test_interaction_weights_compare_a_lift_with_the_same_lift_elsewhere() -> None:
    levels = np.array([(i, j, k) for i in range(3) for j in range(2) for k in range(2)])
    means = np.array([0.1 + 0.02 * i + 0.03 * j + 0.05 * (i == 1) * k for i, j, k in levels])
    every = np.ones(12, dtype=np.bool_)
    with_other = interaction_weights(levels, every, (0, 2), (1, 1), (0, 0))
    assert with_other @ means == pytest.approx(0.05)
    assert interaction_weights(levels, every, (0, 2), (2, 1), (0, 0)) @ means == pytest.approx(0)
    assert with_other.sum() == 0
    excluded = every.copy()
    excluded[np.flatnonzero((levels == (1, 0, 1)).all(axis=1))] = False
    left = interaction_weights(levels, excluded, (0, 2), (1, 1), (0, 0))
    assert set(levels[left != 0][:, 1]) == {1}, "like is compared with like"
    assert left @ means == pytest.approx(0.05)
    none = levels[:, 2] == 0
    assert not interaction_weights(levels, none, (0, 2), (1, 1), (0, 0)).any()
