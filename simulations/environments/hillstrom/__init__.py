"""Customers like those of Hillstrom's email test: drawn from estimated figures, never from rows.

`environment` draws them, `design_matrix` has the model's columns, `coefficients` its numbers, and
`estimate` is the program that computed those from the real file.
"""

from simulations.environments.hillstrom.environment import Hillstrom

__all__ = ["Hillstrom"]
