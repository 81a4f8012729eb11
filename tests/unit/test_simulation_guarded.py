"""Guarded policies in the simulator: what they pause, ship and leave out."""

import numpy as np
import pytest

from bandits.errors import InvalidInput
from simulations.scenario import parse
from simulations.simulate import simulate_run

RISING = """
[environment]
kind = "bernoulli"
means = [0.1, 0.2, 0.4]
[run]
horizon = 6000
batches = 12
unwanted = [0.2, 0.002, 0.1]
replications = 10
seed = 3
[[policy]]
name = "thompson"
floor = 0.05
guardrail = { limit = 0.01, batches_a_day = 4 }
[[policy]]
name = "thompson"
label = "free"
floor = 0.05
"""


@pytest.fixture(scope="module")
def outcomes():
    scenario = parse(RISING)
    result = simulate_run(scenario.environment, scenario.policies, scenario.run)
    return result.outcomes, result.summaries()


def test_guarded_learner_pauses_the_arm_with_the_events_and_never_the_control(outcomes):
    (guarded, free), _ = outcomes
    sends, unguarded = guarded.record.sends, free.record.sends
    assert (sends[:, 2] < 0.3 * unguarded[:, 2]).all()
    assert (sends[:, 0] > 0.8 * unguarded[:, 0]).all(), "though its emails have more events"
    assert sends.sum(axis=1) == pytest.approx(6000)


def test_guarded_learner_ships_the_best_arm_that_is_left(outcomes):
    (guarded, free), _ = outcomes
    assert guarded.record.rate_after == pytest.approx(0.2)
    assert free.record.rate_after == pytest.approx(0.4)


def test_summary_counts_unwanted_events(outcomes):
    (guarded, _), (summary, _) = outcomes
    expected = guarded.record.sends @ np.array([0.2, 0.002, 0.1])
    assert summary.unwanted.mean == pytest.approx(expected.mean())


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("unwanted = [0.2, 0.002, 0.1]", "", "/policy/0/guardrail", "needs run.unwanted"),
        ("batches = 12", "", "/policy/0/guardrail", "needs run.batches"),
        ("0.002, 0.1]", "0.002]", "/run/unwanted", "must have 3 chances"),
        ("0.002, 0.1]", "0.002, 1.1]", "/run/unwanted/2", "at most 1"),
        ("limit = 0.01,", "limit = 0.0,", "/policy/0/guardrail/limit", "above 0"),
        ("limit = 0.01,", "", "/policy/0/guardrail/limit", ""),
        ("floor = 0.05\nguard", "stop = {}\nguard", "/policy/0/guardrail", "beside stop"),
    ],
)
def test_scenario_names_guardrails_that_do_not_fit(old, new, place, words):
    with pytest.raises(InvalidInput) as error:
        parse(RISING.replace(old, new, 1))
    assert place in [f.pointer for f in error.value.faults]
    assert words in str(error.value)
