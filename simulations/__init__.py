"""Compare policies with each other and with A/B tests, in simulation and on real logs.

>>> from simulations import ABTest, simulate
>>> from simulations.environments import Bernoulli
>>> result = simulate(Bernoulli((.20, .18, .24)), ["thompson", ABTest(share=.1)], horizon=10_000)

`scenario` reads a scenario file, `learner_config` the learners in it, and `simulate` runs it.
`environments` draw recipients and rewards, `learners` are policies and `ab_tests` the tests beside
them; `running` has the loop and its delays, `reporting` tables, charts and files. `evaluation`
estimates a policy's value on a log with propensities, `replay` runs a policy on a log that
`csv_log` reads. `planning` makes the forecasts of the web form, `policy_docs` the page of policies,
and `scenarios` are files to begin with.
"""

from simulations.ab_tests.procedures import (
    ABTest,
    FixedHorizonTest,
    GroupSequentialTest,
    SuccessiveElimination,
)
from simulations.evaluation.evaluation import evaluate
from simulations.evaluation.logged_rounds import LoggedRounds
from simulations.evaluation.policy_evaluation import PolicyEvaluation
from simulations.evaluation.reward_model import RewardModel
from simulations.evaluation.sequential_dr import LearningPolicy
from simulations.evaluation.targets import FixedShares, FrozenPolicy, LoggedPolicy, WithoutArm
from simulations.log_reader import LogFileColumns, read_log
from simulations.reporting.result import Result
from simulations.running.delays import Feedback
from simulations.running.schedule import Ramp
from simulations.scenario import Scenario, load
from simulations.simulate import simulate

__all__ = [
    "ABTest",
    "Feedback",
    "FixedHorizonTest",
    "FixedShares",
    "FrozenPolicy",
    "GroupSequentialTest",
    "LearningPolicy",
    "LogFileColumns",
    "LoggedPolicy",
    "LoggedRounds",
    "PolicyEvaluation",
    "Ramp",
    "Result",
    "RewardModel",
    "Scenario",
    "SuccessiveElimination",
    "WithoutArm",
    "evaluate",
    "load",
    "read_log",
    "simulate",
]
