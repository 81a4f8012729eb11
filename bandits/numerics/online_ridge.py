"""Ridge regressions that learn at every step of a simulation."""

from math import prod

import numpy as np
from numpy.random import Generator

from bandits.array_types import AnyArray, FloatArray, IntArray, row_starts
from bandits.numerics.linear_fit import flatten_batch, inverse_root, restore_batch
from bandits.numerics.ties import TieSampler, draw_largest
from bandits.problem import Problem
from bandits.statistics import Ridge

_STEPS_TO_REFRESH = 4096  # so that the drift of the updates stays below 1e-9
_STATE_AXES = 2  # axes of contexts (R, d)
_RECENT_VALUES = 1 << 21  # values of contexts that are kept until a refresh


class OnlineRidge:
    """Fit of a simulation that learns at every step, by rank-1 updates of the inverses.

    After Sherman and Morrison (1950), (A + x xᵀ)⁻¹ = A⁻¹ - A⁻¹x (A⁻¹x)ᵀ / (1 + xᵀA⁻¹x), so θ moves
    by A⁻¹x (r - x·θ) / (1 + xᵀA⁻¹x). It starts anew from a factorisation after 4096 steps. Nothing
    may be pending. Products with contexts are kept for learning from the same array: between a
    prediction for contexts and an update from them, they must not be written to.

    A step costs some twenty calls of numpy, not their arithmetic, where replications are few. So
    each array is allocated once, each call writes to it, and each view of it is made once.
    """

    def __init__(self, statistic: Ridge, ridge: float) -> None:
        """Start from the factorisation of a statistic, with the penalty λ."""
        *lead, n_arms, d = self._shape = statistic.moment.shape
        self._start_sums, self._ridge, states = statistic, ridge, prod(lead)
        self._firsts = row_starts(states, n_arms)
        # Of each arm the rows of A⁻¹, then θ: one product with x gives A⁻¹x and x·θ of all arms.
        root = inverse_root(statistic.gram, ridge).reshape(-1, d, d)
        arms = np.empty((states * n_arms, d + 1, d))
        np.matmul(np.swapaxes(root, -1, -2), root, out=arms[:, :d])
        arms[:, d] = (arms[:, :d] @ statistic.moment.reshape(-1, d, 1))[:, :, 0]
        self._rows = arms.reshape(states, n_arms * (d + 1), d)
        self._products = np.empty((states, n_arms * (d + 1), 1))
        by_arm = self._products.reshape(states, n_arms, d + 1)
        self._reached = by_arm[:, :, :d]  # A⁻¹x
        self._means = by_arm[:, :, d]  # x·θ
        self._squares = np.empty((states, n_arms, 1))  # xᵀA⁻¹x
        self._flat_squares = self._squares[:, :, 0]
        self._contexts: FloatArray | None = None
        self._contexts_shape, self._state_axes = (states, d), len(lead) + 1
        self._x = np.empty(self._contexts_shape)
        self._allocate_chosen(arms, by_arm)
        self._tie_sampler, self._reach = TieSampler((states, n_arms)), np.empty(())
        self._zeros = np.zeros((states, n_arms))
        self._recent: list[tuple[IntArray, FloatArray, FloatArray]] = []
        self._recent_limit = min(_STEPS_TO_REFRESH, _RECENT_VALUES // max(1, states * d))

    def _allocate_chosen(self, arms: FloatArray, by_arm: FloatArray) -> None:
        """Allocate arrays for the update of the chosen arms, one of each state."""
        states, _, n = by_arm.shape
        self._take_arms, self._arms = items_of(arms).take, items_of(arms)
        self._updated = np.empty((states, n, n - 1))
        self._updated_items = items_of(self._updated)
        self._take_products = items_of(by_arm.reshape(-1, n)).take
        column = np.empty((states, n))  # A⁻¹x, then x·θ
        self._column_items, self._column = items_of(column), column[:, :, None]
        self._products_of_chosen, self._residuals = column[:, :-1], column[:, -1]
        self._take_squares, self._ones = self._squares.reshape(-1).take, np.ones(states)
        self._shrink = np.empty((states, 1))
        self._shrink_flat = self._shrink[:, 0]
        self._gains = np.empty((states, n - 1))
        self._row = self._gains[:, None, :]
        self._outer = np.empty_like(self._updated)

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return self.predict(contexts)[0]

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀA⁻¹x)."""
        return self.predict(contexts)[1]

    def predict(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x·θ and √(xᵀA⁻¹x)."""
        shape = self._shape
        if contexts.ndim == self._state_axes:
            if contexts is not self._contexts:
                self._multiply(contexts)
            squares = np.maximum(self._squares, 0.0).reshape(shape[:-1])
            return self._means.reshape(shape[:-1]).copy(), np.sqrt(squares, out=squares)
        *lead, n_arms, d = shape
        x = flatten_batch(contexts, shape)
        products = self._rows.reshape(*lead, -1, d) @ np.swapaxes(x, -1, -2)
        products = products.reshape(*products.shape[:-2], n_arms, d + 1, -1)
        squares = np.maximum(np.einsum("...kdn,...nd->...nk", products[..., :d, :], x), 0.0)
        means = np.swapaxes(products[..., d, :], -1, -2)
        return restore_batch(means, contexts), restore_batch(np.sqrt(squares), contexts)

    def _multiply(self, contexts: FloatArray) -> None:
        """Multiply with contexts (*lead, d)."""
        x = contexts
        if x.shape != self._contexts_shape:
            x = np.broadcast_to(x, (*self._shape[:-2], self._shape[-1])).reshape(
                self._contexts_shape
            )
        column = x[:, :, None]
        np.matmul(self._rows, column, self._products)
        np.matmul(self._reached, column, self._squares)
        self._contexts, self._x = contexts, x

    def bounds(self, contexts: FloatArray, reach: float) -> FloatArray:
        """Return means + reach · widths."""
        means, widths = self.predict(contexts)
        return means + reach * widths

    def draw_bound(self, contexts: FloatArray, reach: float, rng: Generator) -> IntArray:
        """Draw an arm of the largest bound."""
        if contexts.ndim != self._state_axes:
            return draw_largest(self.bounds(contexts, reach), rng)
        if contexts is not self._contexts:
            self._multiply(contexts)
        scores, width = self._tie_sampler.scores, self._reach
        width.fill(reach)
        np.maximum(self._flat_squares, self._zeros, out=scores)
        np.sqrt(scores, scores)
        np.multiply(scores, width, scores)
        np.add(scores, self._means, scores)
        arms = self._tie_sampler.draw_largest(scores, rng)
        return arms if contexts.ndim == _STATE_AXES else arms.reshape(self._shape[:-2])

    def update(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> "OnlineRidge":
        """Add one observation to each state, in place."""
        if arms.ndim != 1:
            arms, rewards = arms.reshape(-1), rewards.reshape(-1)
        cells = self._firsts + arms
        if contexts is not self._contexts:
            self._multiply(contexts)
        self._recent.append((cells, rewards, self._x))
        if len(self._recent) > self._recent_limit:
            return self._restart()
        self._take_products(cells, None, self._column_items, "clip")
        np.subtract(self._residuals, rewards, self._residuals)  # x·θ - r
        np.add(self._take_squares(cells), self._ones, self._shrink_flat)
        np.divide(self._products_of_chosen, self._shrink, self._gains)
        self._take_arms(cells, None, self._updated_items, "clip")
        np.multiply(self._column, self._row, self._outer)
        np.subtract(self._updated, self._outer, self._updated)
        self._arms[cells] = self._updated_items
        self._contexts = None
        return self

    def _restart(self) -> "OnlineRidge":
        """Start anew from the factorisation of all observations."""
        cells, rewards, x = (np.concatenate(parts) for parts in zip(*self._recent, strict=True))
        statistic, d = self._start_sums, self._shape[-1]
        all_arms = Problem.of(prod(self._shape[:-1]), d)  # of all states
        recent = Ridge.from_observations(all_arms, cells, rewards, x, np.ones(len(cells)))
        gram = statistic.gram + recent.gram.reshape(statistic.gram.shape)
        moment = statistic.moment + recent.moment.reshape(statistic.moment.shape)
        return OnlineRidge(Ridge(gram, moment, statistic.pending), self._ridge)


def items_of(arrays: FloatArray) -> AnyArray:
    """View arrays (n, ...) as n items, each of which is copied at once."""
    return arrays.reshape(len(arrays), -1).view(f"V{arrays[0].nbytes}")[:, 0]
