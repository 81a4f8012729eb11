"""Posterior draws of the weights that arms share, and the best arm under each draw."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import flatten_batch, inverse_root, restore_batch
from bandits.policy import Contributions
from bandits.problem import Problem
from bandits.statistics.slot_ridge import SlotRidge, slot_features

_CHUNK = 1 << 18  # values at once, so that they stay in the processor's cache
_COMBINATIONS = 1 << 20  # of variants, of which a table is kept


@dataclass(frozen=True, eq=False)
class LinearDraws:
    """Frozen draws θ ~ N(θ̂, (spread · σ)² (λ + gram)⁻¹) of a model over slots.

    Where arms share weights their scores are correlated, and the chance to be the largest is no
    one-dimensional integral. So the rule itself is to draw one of these draws for each recipient,
    each with the same chance; the share of them that prefer an arm is then its exact probability.

    Attributes:
        statistic: the sums of the model.
        problem: the arms.
        ridge: λ.
        spread: multiplier of the posterior's standard deviation.
        rng: the generator of the draws, used once.
        n_draws: M.
    """

    statistic: SlotRidge
    problem: Problem
    ridge: float
    spread: float
    rng: Generator
    n_draws: int

    @cached_property
    def _posterior(self) -> tuple[FloatArray, FloatArray]:
        """The estimate (*lead, D), and the root that scales normals, (*lead, D, D)."""
        statistic = self.statistic
        root = inverse_root(statistic.gram, self.ridge)
        theta = (np.swapaxes(root, -1, -2) @ (root @ statistic.moment[..., None]))[..., 0]
        around = statistic.square[..., 0] - np.vecdot(theta, statistic.moment)
        # A first guess, that of rewards at both ends of the range, counts for one observation.
        guess = (self.problem.span / 2) ** 2
        variance = (np.maximum(around, 0) + guess) / (statistic.count[..., 0] + 1)
        return theta, self.spread * np.sqrt(variance)[..., None, None] * root

    @cached_property
    def weights(self) -> FloatArray:
        """The draws, (*lead, M, D)."""
        return self._draw_weights(self.rng, self.n_draws)

    def _draw_weights(self, rng: Generator, n: int) -> FloatArray:
        theta, root = self._posterior
        return (
            theta[..., None, :]
            + rng.standard_normal((*theta.shape[:-1], n, theta.shape[-1])) @ root
        )

    def contributions(self, context: FloatArray) -> Contributions:
        """Split the predictions for one context (d,): a term is that of all slots together."""
        theta, root = self._posterior
        n_arms = self.problem.n_arms
        shown = slot_features(
            self.problem, np.arange(n_arms), np.broadcast_to(context, (n_arms, len(context)))
        )
        terms = (theta * shown).reshape(n_arms, -1, len(context)).sum(axis=1)
        return Contributions(terms, np.linalg.norm(shown @ root.T, axis=-1))

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards φ·θ̂ in contexts (*lead, *batch, d): (*lead, *batch, K)."""
        theta, (n_arms, n_slots) = self._posterior[0], self.problem.slot_levels.shape
        by_place = theta.reshape(*theta.shape[:-1], n_slots, -1, contexts.shape[-1])
        own = by_place[..., np.arange(n_slots), self.problem.slot_levels, :].sum(axis=-2)
        rows = flatten_batch(contexts, (*theta.shape[:-1], n_arms, contexts.shape[-1]))
        return restore_batch(rows @ np.swapaxes(own, -1, -2), contexts)

    def shares(self, contexts: FloatArray) -> FloatArray:
        """Return the share of draws that prefer each arm in contexts (*lead, *batch, d)."""
        lead = self.statistic.moment.shape[:-1]
        batch, d = contexts.shape[len(lead) : -1], contexts.shape[-1]
        rows = np.broadcast_to(contexts, (*lead, *batch, d)).reshape(*lead, -1, d)
        if rows.shape[-2:] == (1, 1):
            shares = self._shares_of_states(self.weights, rows.reshape(-1))
            return shares.reshape(*lead, *batch, self.problem.n_arms)
        out = np.empty((*rows.shape[:-1], self.problem.n_arms))
        for at in np.ndindex(*lead):
            distinct, which = _distinct(rows[at])
            out[at] = self._shares(self.weights[at], distinct)[which]
        return out.reshape(*lead, *batch, self.problem.n_arms)

    def _shares(self, weights: FloatArray, contexts: FloatArray) -> FloatArray:
        """Count the best arms under each draw (M, D) for contexts (n, d): (n, K)."""
        n_arms = self.problem.n_arms
        out = np.empty((len(contexts), n_arms))
        # Places before draws: then an operation on all draws is one on neighbours in memory.
        by_place = weights.reshape(len(weights), -1, contexts.shape[-1]).transpose(2, 1, 0)
        columns = by_place.reshape(contexts.shape[-1], -1)
        step = max(1, _CHUNK // columns.shape[-1])
        for i in range(0, len(contexts), step):
            values = contexts[i : i + step] @ columns
            best = self._best(values.reshape(len(values), -1, len(weights)).swapaxes(0, 1))
            out[i : i + step] = self._arm_shares(best)
        return out

    def _shares_of_states(self, weights: FloatArray, contexts: FloatArray) -> FloatArray:
        """Count the best arms of states (*lead) with a context of one number each (n,): (n, K).

        Recipients are alike in a plan: many states at once cost half as much.
        """
        states = weights.reshape(len(contexts), *weights.shape[-2:])
        out = np.empty((len(states), self.problem.n_arms))
        step = max(1, _CHUNK // states[0].size)
        for i in range(0, len(states), step):
            values = states[i : i + step] * contexts[i : i + step, None, None]
            out[i : i + step] = self._arm_shares(self._best(values.transpose(2, 0, 1).copy()))
        return out

    def _arm_shares(self, best: IntArray) -> FloatArray:
        """Return the part of the draws (n, M) that has each arm as its best, (n, K)."""
        n_arms = self.problem.n_arms
        cells = best + n_arms * np.arange(len(best))[:, None]
        counts = np.bincount(cells.ravel(), minlength=len(best) * n_arms)
        return counts.reshape(len(best), n_arms) / best.shape[1]

    @cached_property
    def _combinations(self) -> tuple[list[IntArray], IntArray | None]:
        """The variants that each slot's arms show, and the arm of each combination of them.

        The table (one number per combination, those of the last slot beside each other) has -1
        where no arm shows a combination; there is none where combinations are too many.
        """
        levels = self.problem.slot_levels
        shown = [np.unique(slot) for slot in levels.T]
        counts = [len(used) for used in shown]
        if prod(counts) > _COMBINATIONS:
            return shown, None
        places = [np.searchsorted(used, slot) for used, slot in zip(shown, levels.T, strict=True)]
        arms = np.full(prod(counts), -1)
        cells = np.zeros(len(levels), np.int64)
        for place, count in zip(places, counts, strict=True):
            cells = cells * count + place
        arms[cells] = np.arange(len(levels))
        return shown, arms

    def _best(self, values: FloatArray) -> IntArray:
        """Return the best arm (...) from the values of all variants, (S·L, ...).

        The best combination is that of each slot's best variants; only where no arm shows it are
        arms compared with each other.
        """
        shown, arms = self._combinations
        if arms is None:
            return self._best_sum(values)
        n_levels = len(values) // len(shown)
        combination = np.zeros(values.shape[1:], np.int32)
        for slot, used in enumerate(shown):
            first, *others = used + slot * n_levels
            top, which = values[first], np.zeros_like(combination)
            for place, row in enumerate(others, start=1):
                np.copyto(which, place, where=values[row] > top)
                top = np.maximum(top, values[row])
            combination = combination * len(used) + which
        best = arms.take(combination)
        missing = best < 0
        if missing.any():
            best[missing] = self._best_sum(values[:, missing])
        return best

    def _best_sum(self, values: FloatArray) -> IntArray:
        """Return the arm (...) with the largest sum of its variants' values, (S·L, ...)."""
        levels = self.problem.slot_levels
        places = levels + np.arange(levels.shape[-1]) * (len(values) // levels.shape[-1])
        return sum(values[slot] for slot in places.T).argmax(axis=0)

    def sample(self, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw one of the draws for each of contexts (*lead, *batch, d), and its best arm."""
        lead, d = self.statistic.moment.shape[:-1], contexts.shape[-1]
        batch = contexts.shape[len(lead) : -1]
        if not batch:  # one recipient a state: a draw for them alone need not be frozen
            draw = self._draw_weights(rng, 1)[..., 0, :]
            values = (draw.reshape(*lead, -1, d) @ contexts[..., None])[..., 0]
            return self._best(np.moveaxis(values, -1, 0))
        rows = np.broadcast_to(contexts, (*lead, *batch, d)).reshape(*lead, -1, d)
        out = np.empty(rows.shape[:-1], np.int64)
        for at in np.ndindex(*lead):
            draws = rng.integers(self.n_draws, size=(rows.shape[-2],))
            out[at] = self._best_under(self.weights[at], draws, rows[at])
        return out.reshape(*lead, *batch)

    def _best_under(self, weights: FloatArray, draws: IntArray, contexts: FloatArray) -> IntArray:
        """Return the best arm (n,) of contexts (n, d), each under its own of the draws (M, D)."""
        n, d = contexts.shape
        out = np.empty(n, np.int64)
        step = max(1, _CHUNK // max(1, weights.shape[-1]))
        for i in range(0, n, step):
            part = slice(i, i + step)
            draw = weights[draws[part]].reshape(len(draws[part]), -1, d)
            out[part] = self._best((draw @ contexts[part][:, :, None])[..., 0].T)
        return out


def draws_sample(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: LinearDraws,
    contexts: FloatArray,
    rng: Generator,
) -> IntArray:
    """Draw one of the posterior draws for each recipient, and return its best arm."""
    return prepared.sample(contexts, rng)


def draws_means(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: LinearDraws,
    contexts: FloatArray,
) -> FloatArray:
    """Return the predictions (*lead, *batch, K)."""
    return prepared.means(contexts)


def draws_contributions(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: LinearDraws,
    context: FloatArray,
) -> Contributions:
    """Split the prediction for one context (d,) by feature."""
    return prepared.contributions(context)


def _distinct(rows: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the distinct rows (m, d) of (n, d), and the position of each row among them, (n,).

    A single one, as where recipients are alike, is not worth sorting.
    """
    if len(rows) == 1:
        return rows, np.zeros(1, np.int64)
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    return distinct, which.reshape(-1)
