"""Interface of a linear fit, and the factorisations and shapes that fits share."""

from math import prod
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray

_ROUNDING = 1e-14  # relative: the rounding that may make sums of products indefinite


class LinearFit(Protocol):
    """Fit of each arm's weights θ: an estimate for any context, and its width.

    Contexts (*lead, *batch, d) become values (*lead, *batch, K).
    """

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ, from the matured observations."""
        ...

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀ (λ + gram + pending)⁻¹ x)."""
        ...

    def predict(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return means and widths, which together cost little more than widths."""
        ...

    def bounds(self, contexts: FloatArray, reach: float) -> FloatArray:
        """Return means + reach · widths."""
        ...

    def draw_bound(self, contexts: FloatArray, reach: float, rng: Generator) -> IntArray:
        """Draw an arm of the largest bound, each with the same chance: (*lead, *batch)."""
        ...

    def update(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> "LinearFit":
        """Add one observation to each state: arms, rewards (*lead,), contexts (*lead, d).

        The result takes this object over; use the result only.
        """
        ...


def add_penalty(gram: FloatArray, ridge: float) -> FloatArray:
    """Add λ to the diagonal, and a bound of the rounding of a large gram."""
    d = gram.shape[-1]
    largest = np.einsum("...ii->...i", gram).max(axis=-1, initial=0.0)
    return gram + (ridge + _ROUNDING * d * largest)[..., None, None] * np.eye(d)


def inverse_root(gram: FloatArray, ridge: float) -> FloatArray:
    """Return L⁻¹ (..., d, d), with L Lᵀ = λ + gram: (λ + gram)⁻¹ is its transpose times itself."""
    return np.linalg.inv(np.linalg.cholesky(add_penalty(gram, ridge)))


def flatten_batch(contexts: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Flatten the batch axes of contexts for weights of shape (*lead, K, d): (*lead, n, d)."""
    if contexts.ndim == len(shape) == 2:  # noqa: PLR2004 - recipients and features of one state
        return contexts
    lead, axes = contexts.shape[: len(shape) - 2], contexts.shape[len(shape) - 2 : -1]
    return contexts.reshape(*lead, prod(axes), shape[-1])


def restore_batch(values: FloatArray, contexts: FloatArray) -> FloatArray:
    """Restore the batch axes of contexts in values (*lead, n, K)."""
    if contexts.ndim == values.ndim:
        return values
    lead = values.shape[:-2]
    return values.reshape(*lead, *contexts.shape[len(lead) : -1], values.shape[-1])
