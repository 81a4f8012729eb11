"""Compare policies with each other and with A/B tests, in simulation and on real logs.

>>> from simulations import ABTest, simulate
>>> from simulations.environments import Bernoulli
>>> result = simulate(Bernoulli((.20, .18, .24)), ["thompson", ABTest(share=.1)], horizon=10_000)

Each step from a question to its answer has a place: `scenario` reads a question, `lineup` who takes
part, and `simulation` puts it. `environments` are the worlds, `conditions` what everybody meets in
them, `contestants` the policies at play and `baselines` the tests beside them; `running` plays and
`reporting` tells. `replay` does without a world, on a log; `planning` answers the form in the web
pages; `reading` is how files and untyped values come in; `scenarios` are questions to begin with.
"""

from simulations.ab_tests.procedures import (
    ABTest,
    FixedHorizonTest,
    GroupSequentialTest,
    SuccessiveElimination,
)
from simulations.reporting.result import Result
from simulations.running.delays import Feedback
from simulations.running.schedule import Ramp
from simulations.scenario import Scenario, load
from simulations.simulate import simulate

__all__ = [
    "ABTest",
    "Feedback",
    "FixedHorizonTest",
    "GroupSequentialTest",
    "Ramp",
    "Result",
    "Scenario",
    "SuccessiveElimination",
    "load",
    "simulate",
]
