"""Ridge regression of the reward on the context, one for each arm."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import (
    LinearFit,
    add_penalty,
    flatten_batch,
    inverse_root,
    restore_batch,
)
from bandits.numerics.online_ridge import OnlineRidge
from bandits.numerics.ties import draw_largest
from bandits.policy import Contributions
from bandits.problem import Problem
from bandits.statistics import Ridge

_CHUNK = 1 << 17  # values at once, so that they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Fit by factorisation.

    Attributes:
        statistic: the sums of each arm.
        ridge: λ, the penalty on θ², and the whole gram of an arm without observations.
    """

    statistic: Ridge
    ridge: float

    @cached_property
    def theta(self) -> FloatArray:
        """Estimates (*lead, K, d): (λ + gram)⁻¹ moment."""
        gram = add_penalty(self.statistic.gram, self.ridge)
        return np.linalg.solve(gram, self.statistic.moment[..., None])[..., 0].astype(
            np.float64, copy=False
        )

    @cached_property
    def root(self) -> FloatArray:
        """L⁻¹ of every arm, (*lead, K, d, d), with L Lᵀ = λ + gram + pending."""
        return inverse_root(self.statistic.gram + self.statistic.pending, self.ridge)

    @cached_property
    def _columns(self) -> FloatArray:
        """The matrix that contexts are multiplied with: all roots, then θ, (*lead, d, K·d + K)."""
        *lead, n_arms, d, _ = self.root.shape
        rows = self.root.reshape(*lead, n_arms * d, d)
        return np.swapaxes(np.concatenate([rows, self.theta], axis=-2), -1, -2).copy()

    @cached_property
    def _theta_columns(self) -> FloatArray:
        return np.swapaxes(self.theta, -1, -2).copy()

    def means(self, contexts: FloatArray) -> FloatArray:
        """Estimate rewards: x·θ."""
        return restore_batch(
            flatten_batch(contexts, self.theta.shape) @ self._theta_columns, contexts
        )

    def widths(self, contexts: FloatArray) -> FloatArray:
        """Return |L⁻¹ x|."""
        return self.predict(contexts)[1]

    def predict(self, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x·θ and |L⁻¹ x|, in chunks of contexts."""
        rows, shape = flatten_batch(contexts, self.theta.shape), self.theta.shape
        step = max(1, _CHUNK * rows.shape[-1] // max(self.root.size, 1))
        if rows.shape[-2] <= step:
            means, widths = self._of_rows(rows)
            return restore_batch(means, contexts), restore_batch(widths, contexts)
        lead = np.broadcast_shapes(rows.shape[:-2], shape[:-2])
        means = np.empty((*lead, rows.shape[-2], shape[-2]))
        widths = np.empty_like(means)
        for i in range(0, rows.shape[-2], step):
            part = slice(i, i + step)
            means[..., part, :], widths[..., part, :] = self._of_rows(rows[..., part, :])
        return restore_batch(means, contexts), restore_batch(widths, contexts)

    def _of_rows(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return means and widths of rows (*lead, n, d): (*lead, n, K)."""
        n_arms, d = self.theta.shape[-2:]
        y = rows @ self._columns
        lengths = y[..., : n_arms * d].reshape(*y.shape[:-1], n_arms, d)
        return y[..., n_arms * d :], np.sqrt(np.vecdot(lengths, lengths))

    def bounds(self, contexts: FloatArray, reach: float) -> FloatArray:
        """Return means + reach · widths."""
        means, widths = self.predict(contexts)
        return means + reach * widths

    def draw_bound(self, contexts: FloatArray, reach: float, rng: Generator) -> IntArray:
        """Draw an arm of the largest bound."""
        return draw_largest(self.bounds(contexts, reach), rng)

    def update(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> LinearFit:
        """Add one observation to each state, by rank-1 updates unless something is pending."""
        if self.statistic.pending.any() or not self.statistic.gram.size:
            *lead, n_arms, d = self.statistic.moment.shape
            x = np.broadcast_to(contexts, (*lead, d))[..., None, :]
            step = arms[..., None], rewards[..., None], x, np.ones((*lead, 1))
            return RidgeFit(
                self.statistic + Ridge.from_observations(Problem.of(n_arms, d), *step), self.ridge
            )
        return OnlineRidge(self.statistic, self.ridge).update(arms, rewards, contexts)


def contributions(
    fit: LinearFit, context: FloatArray, width: float = 0.0, *, log_odds: bool = False
) -> Contributions:
    """Split the predictions for one context (d,): a term is that of its feature alone."""
    terms = fit.means(np.diag(context)).T
    return Contributions(terms, width * fit.widths(context[None])[0], log_odds)


def mean_rates(fit: LinearFit, contexts: FloatArray, spread: float) -> FloatArray:
    """Estimate rates whose log odds are normal: contexts (*lead, *batch, d), (*lead, *batch, K).

    Uncertain odds make a rate less extreme. Source: MacKay (1992), "The evidence framework applied
    to classification networks", as Bishop (2006), "Pattern recognition and machine learning",
    equations 4.153 and 4.154 have it; it is within .02 of the integral.

    Args:
        fit: the log odds.
        contexts: the recipients.
        spread: the number of widths in a standard deviation.
    """
    means, widths = fit.predict(contexts)
    return expit(means / np.sqrt(1 + np.pi / 8 * (spread * widths) ** 2))
