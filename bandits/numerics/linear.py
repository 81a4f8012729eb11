"""Ridge regression of the reward on the context, one for each arm."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np

from bandits.arrays import FloatArray, IntArray
from bandits.policy import Contributions
from bandits.problem import Problem
from bandits.statistics import Ridge

_CHUNK = 1 << 17  # values at once, so that they stay in the processor's cache
_ROUNDING = 1e-14  # relative: what sums of products may lack of being positive definite
_STEPS_TO_REFRESH = 512  # of a walk, so that its drift stays below 1e-9
_KEPT = 1 << 20  # values of contexts that a walk keeps until it is refreshed


class Fit(Protocol):
    """What is known of each arm's weights θ: an estimate for any context, and its width.

    Contexts (*lead, *batch, d) become values (*lead, *batch, K).
    """

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ, from what has matured."""
        ...

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀ (λ + gram + pending)⁻¹ x)."""
        ...

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> "Fit":
        """Add one observation to each state: arms, rewards (*lead,), contexts (*lead, d).

        The result takes this object over; use the result only.
        """
        ...


@dataclass(frozen=True, eq=False)
class Regression:
    """The fit by factorisation.

    Attributes:
        known: the sums it rests on.
        ridge: λ, the penalty on θ², and all that the gram of an arm nobody has seen consists of.
    """

    known: Ridge
    ridge: float

    @cached_property
    def theta(self) -> FloatArray:
        """Estimates (*lead, K, d): (λ + gram)⁻¹ moment."""
        gram = penalised(self.known.gram, self.ridge)
        return np.linalg.solve(gram, self.known.moment[..., None])[..., 0].astype(
            np.float64, copy=False
        )

    @cached_property
    def root(self) -> FloatArray:
        """L⁻¹ of every arm, (*lead, K, d, d), with L Lᵀ = λ + gram + pending."""
        gram = penalised(self.known.gram + self.known.pending, self.ridge)
        return np.linalg.inv(np.linalg.cholesky(gram))

    @cached_property
    def _root_rows(self) -> FloatArray:
        """The rows of all roots below each other, as columns: (*lead, d, K·d)."""
        *lead, n_arms, d, _ = self.root.shape
        return np.swapaxes(self.root.reshape(*lead, n_arms * d, d), -1, -2).copy()

    @cached_property
    def _theta_columns(self) -> FloatArray:
        return np.swapaxes(self.theta, -1, -2).copy()

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return _unrowed(_rows(contexts, self.theta.shape) @ self._theta_columns, contexts)

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return |L⁻¹ x|, in chunks of contexts."""
        rows = _rows(contexts, self.theta.shape)
        step = max(1, _CHUNK * rows.shape[-1] // max(self.root.size, 1))
        if rows.shape[-2] <= step:
            return _unrowed(self._lengths(rows), contexts)
        chunks = range(0, rows.shape[-2], step)
        parts = [self._lengths(rows[..., i : i + step, :]) for i in chunks]
        return _unrowed(np.concatenate(parts, axis=-2), contexts)

    def _lengths(self, rows: FloatArray) -> FloatArray:
        y = rows @ self._root_rows
        y = y.reshape(*y.shape[:-1], *self.theta.shape[-2:])
        return np.sqrt(np.vecdot(y, y))

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Fit:
        """Add one observation to each state, by rank-1 updates unless something is pending."""
        if self.known.pending.any():
            return Regression(_with(self.known, [(arms, rewards, contexts)]), self.ridge)
        return Walk(self).learned(arms, rewards, contexts)


class Walk:
    """The fit of a simulation that learns at every step, by rank-1 updates of the inverses.

    After Sherman and Morrison (1950), (A + x xᵀ)⁻¹ = A⁻¹ - A⁻¹x (A⁻¹x)ᵀ / (1 + xᵀA⁻¹x). It is begun
    anew from a factorisation after at most 512 steps. Nothing may be pending.
    """

    def __init__(self, fit: Regression) -> None:
        """Begin at a fit by factorisation."""
        *lead, n_arms, d = self._shape = fit.theta.shape
        self._begun = fit
        self._firsts = np.arange(prod(lead)) * n_arms
        self._theta = fit.theta.reshape(-1, d).copy()
        root = fit.root.reshape(-1, d, d)
        self._inverses = np.swapaxes(root, -1, -2) @ root
        self._kept: list[tuple[IntArray, FloatArray, FloatArray]] = []
        self._keep = min(_STEPS_TO_REFRESH, _KEPT // max(1, len(self._firsts) * d))

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return self._times(self._theta.reshape(self._shape), contexts)

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀA⁻¹x), as the square root of the product of A⁻¹ and x xᵀ."""
        *lead, d = self._shape
        products = contexts[..., :, None] * contexts[..., None, :]
        squares = self._times(
            self._inverses.reshape(*lead, d * d), products.reshape(*contexts.shape[:-1], d * d)
        )
        return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Fit:
        """Add one observation to each state, in place."""
        self._kept.append((arms, rewards, contexts))
        if len(self._kept) > self._keep:
            return Walk(Regression(_with(self._begun.known, self._kept), self._begun.ridge))
        cells = self._firsts + arms.reshape(-1)
        x = contexts.reshape(-1, contexts.shape[-1])
        inverses, theta = self._inverses.take(cells, axis=0), self._theta.take(cells, axis=0)
        products = (inverses @ x[:, :, None])[..., 0]
        gains = products / (1 + np.vecdot(products, x))[:, None]
        errors = rewards.reshape(-1) - np.vecdot(theta, x)
        self._theta[cells] = theta + gains * errors[:, None]
        inverses -= gains[:, :, None] * products[:, None, :]
        self._inverses[cells] = inverses
        return self

    def _times(self, rows: FloatArray, x: FloatArray) -> FloatArray:
        """Multiply rows (*lead, K, m) with x (*lead, *batch, m): (*lead, *batch, K)."""
        if x.ndim == rows.ndim - 1:
            return (rows @ x[..., None])[..., 0]
        return _unrowed(_rows(x, rows.shape) @ np.swapaxes(rows, -1, -2), x)


def contributions(
    fit: Fit, context: FloatArray, width: float = 0.0, *, log_odds: bool = False
) -> Contributions:
    """Take apart the predictions for one context (d,): a term is that of its feature alone."""
    terms = fit.means(np.diag(context)).T
    return Contributions(terms, width * fit.widths(context[None])[0], log_odds)


def penalised(gram: FloatArray, ridge: float) -> FloatArray:
    """Add λ to the diagonal, and what rounding may have taken from a large gram."""
    d = gram.shape[-1]
    largest = np.einsum("...ii->...i", gram).max(axis=-1, initial=0.0)
    return gram + (ridge + _ROUNDING * d * largest)[..., None, None] * np.eye(d)


def _with(known: Ridge, seen: list[tuple[IntArray, FloatArray, FloatArray]]) -> Ridge:
    """Add observations, each (arms, rewards (*lead,), contexts (*lead, d)), to the sums."""
    *lead, n_arms, d = known.moment.shape
    arms = np.stack([a for a, _, _ in seen], axis=-1)
    rewards = np.stack([r for _, r, _ in seen], axis=-1)
    contexts = np.stack([np.broadcast_to(x, (*lead, d)) for _, _, x in seen], axis=-2)
    return known + Ridge.of(Problem.of(n_arms, d), arms, rewards, contexts, np.ones(arms.shape))


def _rows(contexts: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Flatten the batch axes of contexts for weights of shape (*lead, K, d): (*lead, n, d)."""
    if contexts.ndim == len(shape) == 2:  # noqa: PLR2004 - recipients and features of one state
        return contexts
    lead, axes = contexts.shape[: len(shape) - 2], contexts.shape[len(shape) - 2 : -1]
    return contexts.reshape(*lead, prod(axes), shape[-1])


def _unrowed(values: FloatArray, contexts: FloatArray) -> FloatArray:
    """Restore the batch axes of contexts in values (*lead, n, K)."""
    if contexts.ndim == values.ndim:
        return values
    lead = values.shape[:-2]
    return values.reshape(*lead, *contexts.shape[len(lead) : -1], values.shape[-1])
