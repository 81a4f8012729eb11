"""Ridge regression of the reward on the context, one for each arm."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
from numpy.random import Generator

from bandits.arrays import AnyArray, FloatArray, IntArray, row_starts
from bandits.numerics.ties import Lots, draw_largest
from bandits.policy import Contributions
from bandits.problem import Problem
from bandits.statistics import Ridge

_CHUNK = 1 << 17  # values at once, so that they stay in the processor's cache
_ROUNDING = 1e-14  # relative: what sums of products may lack of being positive definite
_STEPS_TO_REFRESH = 1024  # of a walk, so that its drift stays below 1e-9
_KEPT = 1 << 21  # values of contexts that a walk keeps until it is refreshed


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

    def predicted(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return means and widths, which together cost little more than widths."""
        ...

    def draw_largest(self, scores: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest of scores (*lead, *batch, K), ties alike: (*lead, *batch)."""
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
    def _columns(self) -> FloatArray:
        """What contexts are multiplied with: all rows of all roots, then θ, (*lead, d, K·d + K)."""
        *lead, n_arms, d, _ = self.root.shape
        rows = self.root.reshape(*lead, n_arms * d, d)
        return np.swapaxes(np.concatenate([rows, self.theta], axis=-2), -1, -2).copy()

    @cached_property
    def _theta_columns(self) -> FloatArray:
        return np.swapaxes(self.theta, -1, -2).copy()

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return _unrowed(_rows(contexts, self.theta.shape) @ self._theta_columns, contexts)

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return |L⁻¹ x|."""
        return self.predicted(contexts)[1]

    def predicted(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x·θ and |L⁻¹ x|, in chunks of contexts."""
        rows, shape = _rows(contexts, self.theta.shape), self.theta.shape
        step = max(1, _CHUNK * rows.shape[-1] // max(self.root.size, 1))
        if rows.shape[-2] <= step:
            means, widths = self._of_rows(rows)
            return _unrowed(means, contexts), _unrowed(widths, contexts)
        lead = np.broadcast_shapes(rows.shape[:-2], shape[:-2])
        means = np.empty((*lead, rows.shape[-2], shape[-2]))
        widths = np.empty_like(means)
        for i in range(0, rows.shape[-2], step):
            part = slice(i, i + step)
            means[..., part, :], widths[..., part, :] = self._of_rows(rows[..., part, :])
        return _unrowed(means, contexts), _unrowed(widths, contexts)

    def _of_rows(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return means and widths of rows (*lead, n, d): (*lead, n, K)."""
        n_arms, d = self.theta.shape[-2:]
        y = rows @ self._columns
        lengths = y[..., : n_arms * d].reshape(*y.shape[:-1], n_arms, d)
        return y[..., n_arms * d :], np.sqrt(np.vecdot(lengths, lengths))

    def draw_largest(self, scores: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest of scores (*lead, *batch, K)."""
        return draw_largest(scores, rng)

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Fit:
        """Add one observation to each state, by rank-1 updates unless something is pending."""
        if self.known.pending.any() or not self.known.gram.size:
            *lead, n_arms, d = self.known.moment.shape
            x = np.broadcast_to(contexts, (*lead, d))[..., None, :]
            step = arms[..., None], rewards[..., None], x, np.ones((*lead, 1))
            return Regression(self.known + Ridge.of(Problem.of(n_arms, d), *step), self.ridge)
        return Walk(self).learned(arms, rewards, contexts)


class Walk:
    """The fit of a simulation that learns at every step, by rank-1 updates of the inverses.

    After Sherman and Morrison (1950), (A + x xᵀ)⁻¹ = A⁻¹ - A⁻¹x (A⁻¹x)ᵀ / (1 + xᵀA⁻¹x), so θ moves
    by A⁻¹x (r - x·θ) / (1 + xᵀA⁻¹x). It is begun anew from a factorisation after 1024 steps.
    Nothing may be pending. Products with contexts are kept for learning from the same array: who
    asked about contexts and learns from them must not have written to them in between.
    """

    def __init__(self, fit: Regression) -> None:
        """Begin at a fit by factorisation."""
        *lead, n_arms, d = self._shape = fit.known.moment.shape
        self._begun, states = fit, prod(lead)
        self._firsts = row_starts(states, n_arms)
        # Of each arm the rows of A⁻¹, then θ: one product with x gives A⁻¹x and x·θ of all arms.
        root = fit.root.reshape(-1, d, d)
        arms = np.empty((states * n_arms, d + 1, d))
        np.matmul(np.swapaxes(root, -1, -2), root, out=arms[:, :d])
        arms[:, d] = (arms[:, :d] @ fit.known.moment.reshape(-1, d, 1))[:, :, 0]
        self._rows = arms.reshape(states, n_arms * (d + 1), d)
        self._items = _items(arms)
        self._products = np.empty((states, n_arms * (d + 1), 1))
        self._by_arm = self._products.reshape(states * n_arms, d + 1)
        self._widening = self._products.reshape(states, n_arms, d + 1)[:, :, :d]  # A⁻¹x
        self._means = self._by_arm[:, d].reshape(*lead, n_arms)
        self._squares = np.empty((states, n_arms, 1))  # xᵀA⁻¹x
        self._asked: FloatArray | None = None
        # Of the arm that was chosen: what is kept above, and its products.
        self._moving = np.empty((states, d + 1, d))
        self._moving_items = _items(self._moving)
        self._lots = Lots((*lead, n_arms))
        self._kept: list[tuple[IntArray, FloatArray, FloatArray]] = []
        self._keep = min(_STEPS_TO_REFRESH, _KEPT // max(1, states * d))

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return self.predicted(contexts)[0]

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀA⁻¹x)."""
        return self.predicted(contexts)[1]

    def predicted(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x·θ and √(xᵀA⁻¹x)."""
        shape = self._shape
        if contexts.ndim == len(shape) - 1:
            self._ask(contexts)
            squares = np.maximum(self._squares, 0.0).reshape(shape[:-1])
            return self._means.copy(), np.sqrt(squares, out=squares)
        *lead, n_arms, d = shape
        x = _rows(contexts, shape)
        products = self._rows.reshape(*lead, -1, d) @ np.swapaxes(x, -1, -2)
        products = products.reshape(*products.shape[:-2], n_arms, d + 1, -1)
        squares = np.maximum(np.einsum("...kdn,...nd->...nk", products[..., :d, :], x), 0.0)
        means = np.swapaxes(products[..., d, :], -1, -2)
        return _unrowed(means, contexts), _unrowed(np.sqrt(squares), contexts)

    def _ask(self, contexts: FloatArray) -> FloatArray:
        """Multiply with contexts (*lead, d), unless it was just done; return them as (R, d)."""
        *lead, _, d = self._shape
        x = contexts
        if x.shape != (len(self._firsts), d):
            x = np.broadcast_to(x, (*lead, d)).reshape(-1, d)
        if contexts is not self._asked:
            column = x[:, :, None]
            np.matmul(self._rows, column, out=self._products)
            np.matmul(self._widening, column, out=self._squares)
            self._asked = contexts
        return x

    def draw_largest(self, scores: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the largest of scores (*lead, *batch, K)."""
        if scores.ndim == len(self._shape) - 1:
            return self._lots.draw_largest(scores, rng)
        return draw_largest(scores, rng)

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Fit:
        """Add one observation to each state, in place."""
        if arms.ndim != 1:
            arms, rewards = arms.reshape(-1), rewards.reshape(-1)
        cells = self._firsts + arms
        x = self._ask(contexts)
        self._kept.append((cells, rewards, x))
        if len(self._kept) > self._keep:
            return self._begun_anew()
        products = self._by_arm.take(cells, axis=0)
        products[:, -1] -= rewards  # now A⁻¹x, then x·θ - r
        shrink = -1.0 - self._squares.take(cells)
        gains = products[:, :-1] / shrink[:, None]
        self._items.take(cells, out=self._moving_items, mode="clip")
        self._moving += products[:, :, None] * gains[:, None, :]
        self._items[cells] = self._moving_items
        self._asked = None
        return self

    def _begun_anew(self) -> "Walk":
        """Begin at the factorisation of all that has been learned."""
        cells, rewards, x = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        known, d = self._begun.known, self._shape[-1]
        every = Problem.of(prod(self._shape[:-1]), d)  # arms of all states
        learned = Ridge.of(every, cells, rewards, x, np.ones(len(cells)))
        gram = known.gram + learned.gram.reshape(known.gram.shape)
        moment = known.moment + learned.moment.reshape(known.moment.shape)
        return Walk(Regression(Ridge(gram, moment, known.pending), self._begun.ridge))


def _items(arrays: FloatArray) -> AnyArray:
    """View arrays (n, ...) as n items, each of which is moved at once."""
    return arrays.reshape(len(arrays), -1).view(f"V{arrays[0].nbytes}")[:, 0]


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
