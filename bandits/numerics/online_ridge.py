"""Regressions that learn at every step of a simulation."""

from math import prod

import numpy as np
from numpy.random import Generator

from bandits.array_types import AnyArray, FloatArray, IntArray, row_starts
from bandits.numerics.linear_fit import inverse_root, rows_of, unrowed
from bandits.numerics.ties import TieSampler, draw_largest
from bandits.problem import Problem
from bandits.statistics import Ridge

_STEPS_TO_REFRESH = 4096  # of a walk, so that its drift stays below 1e-9
_ONE_EACH = 2  # axes of contexts (R, d)
_KEPT = 1 << 21  # values of contexts that a walk keeps until it is refreshed


class OnlineRidge:
    """The fit of a simulation that learns at every step, by rank-1 updates of the inverses.

    After Sherman and Morrison (1950), (A + x xᵀ)⁻¹ = A⁻¹ - A⁻¹x (A⁻¹x)ᵀ / (1 + xᵀA⁻¹x), so θ moves
    by A⁻¹x (r - x·θ) / (1 + xᵀA⁻¹x). It is begun anew from a factorisation after 4096 steps.
    Nothing may be pending. Products with contexts are kept for learning from the same array: who
    asked about contexts and learns from them must not have written to them in between.

    A step costs some twenty calls of numpy, not their arithmetic, where replications are few. So
    everything has its place, each call writes to it, and each view of it is made once.
    """

    def __init__(self, known: Ridge, ridge: float) -> None:
        """Begin at the factorisation of what is known, with the penalty λ."""
        *lead, n_arms, d = self._shape = known.moment.shape
        self._begun, self._ridge, states = known, ridge, prod(lead)
        self._firsts = row_starts(states, n_arms)
        # Of each arm the rows of A⁻¹, then θ: one product with x gives A⁻¹x and x·θ of all arms.
        root = inverse_root(known.gram, ridge).reshape(-1, d, d)
        arms = np.empty((states * n_arms, d + 1, d))
        np.matmul(np.swapaxes(root, -1, -2), root, out=arms[:, :d])
        arms[:, d] = (arms[:, :d] @ known.moment.reshape(-1, d, 1))[:, :, 0]
        self._rows = arms.reshape(states, n_arms * (d + 1), d)
        self._products = np.empty((states, n_arms * (d + 1), 1))
        by_arm = self._products.reshape(states, n_arms, d + 1)
        self._reached = by_arm[:, :, :d]  # A⁻¹x
        self._means = by_arm[:, :, d]  # x·θ
        self._squares = np.empty((states, n_arms, 1))  # xᵀA⁻¹x
        self._flat_squares = self._squares[:, :, 0]
        self._asked: FloatArray | None = None
        self._one_each, self._state_axes = (states, d), len(lead) + 1
        self._x = np.empty(self._one_each)
        self._of_chosen(arms, by_arm)
        self._lots, self._reach = TieSampler((states, n_arms)), np.empty(())
        self._zeros = np.zeros((states, n_arms))
        self._kept: list[tuple[IntArray, FloatArray, FloatArray]] = []
        self._keep = min(_STEPS_TO_REFRESH, _KEPT // max(1, states * d))

    def _of_chosen(self, arms: FloatArray, by_arm: FloatArray) -> None:
        """Make room for what is moved of the arms that are chosen, one of each state."""
        states, _, n = by_arm.shape
        self._take_arms, self._arms = items_of(arms).take, items_of(arms)
        self._moving = np.empty((states, n, n - 1))
        self._moving_items = items_of(self._moving)
        self._take_products = items_of(by_arm.reshape(-1, n)).take
        column = np.empty((states, n))  # A⁻¹x, then x·θ
        self._column_items, self._column = items_of(column), column[:, :, None]
        self._gone, self._missed = column[:, :-1], column[:, -1]
        self._take_squares, self._ones = self._squares.reshape(-1).take, np.ones(states)
        self._shrink = np.empty((states, 1))
        self._shrink_flat = self._shrink[:, 0]
        self._gains = np.empty((states, n - 1))
        self._row = self._gains[:, None, :]
        self._outer = np.empty_like(self._moving)

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return self.predicted(contexts)[0]

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return √(xᵀA⁻¹x)."""
        return self.predicted(contexts)[1]

    def predicted(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x·θ and √(xᵀA⁻¹x)."""
        shape = self._shape
        if contexts.ndim == self._state_axes:
            if contexts is not self._asked:
                self._ask(contexts)
            squares = np.maximum(self._squares, 0.0).reshape(shape[:-1])
            return self._means.reshape(shape[:-1]).copy(), np.sqrt(squares, out=squares)
        *lead, n_arms, d = shape
        x = rows_of(contexts, shape)
        products = self._rows.reshape(*lead, -1, d) @ np.swapaxes(x, -1, -2)
        products = products.reshape(*products.shape[:-2], n_arms, d + 1, -1)
        squares = np.maximum(np.einsum("...kdn,...nd->...nk", products[..., :d, :], x), 0.0)
        means = np.swapaxes(products[..., d, :], -1, -2)
        return unrowed(means, contexts), unrowed(np.sqrt(squares), contexts)

    def _ask(self, contexts: FloatArray) -> None:
        """Multiply with contexts (*lead, d)."""
        x = contexts
        if x.shape != self._one_each:
            x = np.broadcast_to(x, (*self._shape[:-2], self._shape[-1])).reshape(self._one_each)
        column = x[:, :, None]
        np.matmul(self._rows, column, self._products)
        np.matmul(self._reached, column, self._squares)
        self._asked, self._x = contexts, x

    def bounds(self, contexts: FloatArray, reach: float) -> FloatArray:
        """Return means + reach · widths."""
        means, widths = self.predicted(contexts)
        return means + reach * widths

    def draw_bound(self, contexts: FloatArray, reach: float, rng: Generator) -> IntArray:
        """Draw an arm of the largest bound."""
        if contexts.ndim != self._state_axes:
            return draw_largest(self.bounds(contexts, reach), rng)
        if contexts is not self._asked:
            self._ask(contexts)
        scores, width = self._lots.scores, self._reach
        width.fill(reach)
        np.maximum(self._flat_squares, self._zeros, out=scores)
        np.sqrt(scores, scores)
        np.multiply(scores, width, scores)
        np.add(scores, self._means, scores)
        arms = self._lots.draw_largest(scores, rng)
        return arms if contexts.ndim == _ONE_EACH else arms.reshape(self._shape[:-2])

    def learned(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> "OnlineRidge":
        """Add one observation to each state, in place."""
        if arms.ndim != 1:
            arms, rewards = arms.reshape(-1), rewards.reshape(-1)
        cells = self._firsts + arms
        if contexts is not self._asked:
            self._ask(contexts)
        self._kept.append((cells, rewards, self._x))
        if len(self._kept) > self._keep:
            return self._begun_anew()
        self._take_products(cells, None, self._column_items, "clip")
        np.subtract(self._missed, rewards, self._missed)  # x·θ - r
        np.add(self._take_squares(cells), self._ones, self._shrink_flat)
        np.divide(self._gone, self._shrink, self._gains)
        self._take_arms(cells, None, self._moving_items, "clip")
        np.multiply(self._column, self._row, self._outer)
        np.subtract(self._moving, self._outer, self._moving)
        self._arms[cells] = self._moving_items
        self._asked = None
        return self

    def _begun_anew(self) -> "OnlineRidge":
        """Begin at the factorisation of all that has been learned."""
        cells, rewards, x = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        known, d = self._begun, self._shape[-1]
        every = Problem.of(prod(self._shape[:-1]), d)  # arms of all states
        learned = Ridge.of(every, cells, rewards, x, np.ones(len(cells)))
        gram = known.gram + learned.gram.reshape(known.gram.shape)
        moment = known.moment + learned.moment.reshape(known.moment.shape)
        return OnlineRidge(Ridge(gram, moment, known.pending), self._ridge)


def items_of(arrays: FloatArray) -> AnyArray:
    """View arrays (n, ...) as n items, each of which is moved at once."""
    return arrays.reshape(len(arrays), -1).view(f"V{arrays[0].nbytes}")[:, 0]
