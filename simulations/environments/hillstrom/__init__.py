"""Customers like those of Hillstrom's email test: drawn from figures, never from rows.

`environment` is the world, `design_matrix` its inputs, `coefficients` its numbers, and `estimate`
the program that made those from the real file.
"""

from simulations.environments.hillstrom.environment import Hillstrom

__all__ = ["Hillstrom"]
