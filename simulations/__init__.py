"""Compare policies with each other and with A/B tests, in simulation and on real logs.

>>> from simulations import ABTest, simulate
>>> from simulations.environments import Bernoulli
>>> result = simulate(Bernoulli((.20, .18, .24)), ["thompson", ABTest(share=.1)], horizon=10_000)
"""

from simulations.ab import ABTest
from simulations.result import Result
from simulations.scenario import Scenario, load
from simulations.simulation import simulate

__all__ = ["ABTest", "Result", "Scenario", "load", "simulate"]
