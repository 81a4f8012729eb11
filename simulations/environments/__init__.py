"""The worlds that policies are tried in, one file each; a scenario names one by its `kind`."""

from simulations.environments.bernoulli import Bernoulli
from simulations.environments.contract import Environment, Rounds
from simulations.environments.hillstrom import Hillstrom

KINDS = Bernoulli | Hillstrom  # what a scenario file can name

__all__ = ["KINDS", "Bernoulli", "Environment", "Hillstrom", "Rounds"]
