import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from msgspec.structs import replace

from bandits.errors import InvalidInput
from simulations import ABTest, simulate
from simulations.ab_tests.procedures import PROCEDURES
from simulations.environments import KINDS, Bernoulli
from simulations.scenario import load, parse, ready_scenarios
from simulations.simulate import simulate_run

GOOD = """
[environment]
kind = "bernoulli"
means = [0.1, 0.2]
[run]
horizon = 100
batches = 10
replications = 20
seed = 7
[[policy]]
name = "thompson"
[[policy]]
name = "ab_test"
params = { share = 0.1 }
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


FAULTS = [
    ("share = 0.1", "share = 0", "/policy/1/params/share", "above 0"),
    ("share = 0.1", "shares = 0.1", "/policy/1/params/shares", "known are share"),
    ("share = 0.1", 'share = "a lot"', "/policy/1/params/share", "must be a number, not text"),
    ("share = 0.1", "share = nan", "/policy/1/params/share", "must be a finite number"),
    ('"thompson"', '"thomson"', "/policy/0/name", "known are ab_test"),
    ('"thompson"', '"thompson"\nparams = { prior_successes = -1 }',
     "/policy/0/params/prior_successes", ""),
    ('"thompson"', '"thompson"\nprior = 1', "/policy/0/prior", "unknown field"),
    ('"thompson"', '"thompson"\nfloor = 0.3', "/policy/0/floor", "at most 0.25"),
    ('"thompson"', '"thompson"\nforgetting = { window = 0 }', "/policy/0/forgetting/window", ""),
    ('"thompson"', '"thompson"\nforgetting = { windw = 5 }', "/policy/0/forgetting/windw", ""),
    ('"thompson"', '"thompson"\nforgetting = {}', "/policy/0/forgetting", "half_life or window"),
    ('"ab_test"', '"ab_test"\nfloor = 0.1', "/policy/1/floor", "ab_test has no floor"),
    ('"ab_test"\nparams = { share = 0.1 }', '"thompson"', "/policy/1/label", "two are called"),
    ("[0.1, 0.2]", "[0.1, 2.0]", "/environment/means/1", "of at most 1"),
    ("[0.1, 0.2]", "[0.1, inf]", "/environment/means/1", "must be a finite number"),
    ("batches = 10", "batches = { first = 1, factr = 2 }", "/run/batches/factr",
     "known are first, factor"),
    ("batches = 10", "batches = { first = 1, factor = 0.5 }", "/run/batches/factor", "at least 1"),
    ("batches = 10", "batches = 10\nfeedback = { median = 5.0 }", "/run/feedback/maturity",
     "give maturity or window"),
    ("batches = 10", "batches = 10\nfeedback = { median = 5.0, maturity = 9.0, window = 8.0 }",
     "/run/feedback/maturity", "must not be longer than the window"),
    ("batches = 10", "batches = 10\nfeedback = { median = [5.0], window = 8.0 }",
     "/run/feedback/median", "has 1 numbers"),
    ("batches = 10", "batches = 10\nfeedback = 3", "/run/feedback", "must be an object"),
    ("[0.1, 0.2]", "[0.1, 0.2]\nmedians = 3", "/environment/medians", "unknown field"),
    ("means = [0.1, 0.2]", "", "/environment/means", "is required"),
    ('"bernoulli"', '"bernouli"', "/environment/kind", "known are bernoulli"),
    ('"bernoulli"', '["bernoulli"]', "/environment/kind", "known are bernoulli"),
    ('kind = "bernoulli"\n', "", "/environment/kind", "is missing"),
    ("batches = 10", "batchs = 10", "/run/batchs", "unknown field"),
    ("batches = 10", "batches = [50, 49]", "/run/batches", "sizes sum to 99"),
    ("horizon = 100", "", "/run/horizon", "is required"),
    ("seed = 7", "seed = 7.5", "/run/seed", "must be a whole number"),
    ("[environment]", "[enviroment]", "/enviroment", "unknown field"),
    ("[run]", "[run", "", "not TOML"),
]  # fmt: skip


PAGE = Path(__file__).parents[2] / "docs/simulations.md"
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_simulations_page_runs(text):
    scenario = parse(text)
    run = replace(scenario.run, replications=1)
    result = simulate_run(scenario.environment, scenario.policies, run)
    assert all(np.isfinite(outcome.record.regret).all() for outcome in result.outcomes)


def test_the_examples_show_every_world_and_every_test():
    shown = set(re.findall(r'^(?:kind|name) = "(\w+)"', "".join(EXAMPLES), re.MULTILINE))
    assert {kind.__struct_config__.tag for kind in get_args(KINDS)} <= shown
    assert set(PROCEDURES) <= shown


def test_scenario_is_read():
    scenario = parse(GOOD)
    assert scenario.environment == Bernoulli((0.1, 0.2))
    assert (scenario.run.horizon, scenario.run.batches, scenario.run.seed) == (100, 10, 7)
    assert [policy["name"] for policy in scenario.policies] == ["thompson", "ab_test"]


@pytest.mark.parametrize(("old", "new", "pointer", "detail"), FAULTS)
def test_scenario_fault_is_named_at_its_place(old, new, pointer, detail):
    with pytest.raises(InvalidInput) as error:
        parse(changed(old, new))
    fault = error.value.faults[0]
    assert fault.pointer == pointer
    assert detail in fault.detail


def test_greedy_last_batch_needs_batches():
    greedy = changed('"thompson"', '"linucb"\ngreedy_last_batch = true')
    assert parse(greedy).policies[0]["greedy_last_batch"]
    with pytest.raises(InvalidInput, match="there is no last batch") as error:
        parse(greedy.replace("batches = 10", ""))
    assert error.value.faults[0].pointer == "/policy/0/greedy_last_batch"


def test_faulty_policies_are_named_at_once():
    text = changed('"thompson"', '"thomson"').replace("share = 0.1", "share = 2")
    with pytest.raises(InvalidInput) as error:
        parse(text)
    pointers = [fault.pointer for fault in error.value.faults]
    assert pointers == ["/policy/0/name", "/policy/1/params/share"]


def test_a_scenario_without_policies_says_so():
    with pytest.raises(InvalidInput, match="/policy"):
        parse(GOOD[: GOOD.index("[[policy]]")])


def test_a_name_that_is_neither_file_nor_scenario_lists_what_is_ready():
    with pytest.raises(InvalidInput, match="ab_table"):
        load("no_such_thing")


@pytest.mark.parametrize("name", ready_scenarios())
def test_every_ready_scenario_is_sound_and_asks_a_question(name):
    scenario = load(name)
    assert scenario.question.endswith("?")
    assert scenario.about


def test_scenario_file_gives_the_numbers_of_python():
    scenario = parse(GOOD)
    result = simulate(
        Bernoulli((0.1, 0.2)),
        ["thompson", ABTest(share=0.1)],
        horizon=100,
        batches=10,
        replications=20,
        seed=7,
    )
    again = simulate(
        scenario.environment,
        scenario.policies,
        horizon=100,
        batches=10,
        replications=20,
        seed=7,
    )
    assert result.report().policies[0] == again.report().policies[0]
    assert result.outcomes[1].summary(0).regret == again.outcomes[1].summary(0).regret


def test_a_policy_that_does_not_take_the_rewards_is_refused_by_name():
    class Orders(Bernoulli, frozen=True):
        @property
        def problem(self):
            return type(super().problem).of(2, n_features=1, low=0, high=99)

    with pytest.raises(InvalidInput, match=r"/policy/1/name: thompson takes .*thompson_gaussian"):
        simulate(Orders((0.1, 0.2)), ["uniform", "thompson"], horizon=10)
