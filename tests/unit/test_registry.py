"""Policies are found by themselves, and a new one needs one new file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import policies as package
from bandits.errors import DuplicatePolicy, InvalidInput
from bandits.policy import Parameters
from bandits.registry import make, policies, register
from tests.patience import LIMIT_SECONDS

NEW = '''
"""Always the first arm."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from bandits.policy import Parameters
from bandits.registry import register
from bandits.statistics import Moments


@register("stubborn", label="Stubborn")
class Stubborn(Parameters, frozen=True):
    """Send the first arm, come what may.

    Source: none.
    """

    statistic: ClassVar[type[Moments]] = Moments

    mind: Annotated[float, Meta(ge=0, le=1, title="Mind", description="How made up it is.")] = 1.0

    def prepare(self, known, problem, upcoming, rng):
        return np.eye(problem.n_arms)[0]

    def propensities(self, prepared, contexts):
        return prepared
'''

TRY = '''
import numpy as np
from simulations.policy_docs import page
from bandits.problem import Problem
from bandits.registry import make, policies
from bandits.statistics import Moments
from simulations import simulate
from simulations.environments import Bernoulli
from simulations.scenario import parse
from simulations.simulate import simulate_run

SCENARIO = """
[environment]
kind = "bernoulli"
means = [0.9, 0.1]
[run]
horizon = 50
replications = 4
[[policy]]
name = "stubborn"
params = { mind = 0.5 }
[[policy]]
name = "uniform"
"""

assert "thompson" in policies()
problem = Problem.of(3)
policy = make("stubborn", {"mind": 0.5})
prepared = policy.prepare(Moments.zeros(problem), problem, 1, np.random.default_rng(1))
assert policy.propensities(prepared, np.zeros((1, 0))).tolist() == [1, 0, 0]
made = page({})

scenario = parse(SCENARIO)
result = simulate_run(scenario.environment, scenario.policies, scenario.run)
stubborn, uniform = result.report().policies
assert "stubborn" in stubborn.label.lower() and stubborn.regret.mean == 0 < uniform.regret.mean
(single,) = simulate(Bernoulli((0.9, 0.1)), ["stubborn"], horizon=9, replications=2).outcomes
assert "## Stubborn" in made and "| `mind` | Mind | How made up it is. | [0, 1] | `1.0` |" in made
'''


def test_a_policy_in_one_new_file_is_registered_documented_and_simulated(tmp_path):
    ours = Path(package.__file__).parents[1]
    for name in ("bandits", "policies", "simulations"):
        shutil.copytree(ours / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / "policies/stubborn.py").write_text(NEW)
    subprocess.run(
        [sys.executable, "-c", TRY],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=True,
        timeout=LIMIT_SECONDS,
    )


def test_policies_page_is_not_stale():
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "simulations.policy_docs", "--check"],
        cwd=root,
        check=True,
        timeout=LIMIT_SECONDS,
    )


def test_a_stale_page_fails_the_check(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "policies.md").write_text("as it was")
    checked = subprocess.run(
        [sys.executable, "-m", "simulations.policy_docs", "--check"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert checked.returncode == 1
    assert "stale" in checked.stderr


def test_policies_of_one_name_are_refused():
    with pytest.raises(DuplicatePolicy, match="thompson"):

        @register("thompson", label="Another")
        class Another(Parameters, frozen=True):
            """Another."""


def test_an_unknown_policy_is_refused_and_the_known_ones_named():
    with pytest.raises(InvalidInput, match="thompson_gaussian") as caught:
        make("tomson")
    assert caught.value.faults[0].pointer == "/name"


def test_wrong_parameters_are_named_at_once():
    with pytest.raises(InvalidInput) as caught:
        make("thompson", {"prior_successes": -1, "prior_failures": "x"})
    assert {f.pointer for f in caught.value.faults} == {
        "/params/prior_successes",
        "/params/prior_failures",
    }


def test_policies_come_in_alphabetical_order():
    assert list(policies()) == sorted(policies())
