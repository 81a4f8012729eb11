"""Environments of simulations, one file each; a scenario names one by its `kind`."""

from simulations.environments.bernoulli import Bernoulli
from simulations.environments.classification import Classification
from simulations.environments.gaussian import Gaussian
from simulations.environments.hillstrom import Hillstrom
from simulations.environments.interfaces import Environment, Rounds
from simulations.environments.logistic import Logistic
from simulations.environments.nonstationary import DriftingRates
from simulations.environments.orders import Orders
from simulations.environments.slots import Slots

# The environments of scenario files.
KINDS = (
    Bernoulli | Classification | DriftingRates | Gaussian | Hillstrom | Logistic | Orders | Slots
)

__all__ = [
    "KINDS",
    "Bernoulli",
    "Classification",
    "Drifting",
    "Environment",
    "Gaussian",
    "Hillstrom",
    "Logistic",
    "Orders",
    "Rounds",
    "Slots",
]
