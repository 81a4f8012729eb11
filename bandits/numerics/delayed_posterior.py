"""Posterior of arms' rates while answers are late: rates and laws of delay are learned together.

Arm k is answered within the window with chance p_k. An answer's delay is log-normal(μ_k, σ), cut at
the window: with F the law's distribution function over that at the window's end, a send without an
answer at age a has likelihood 1 − p F(a), and an answer after d has p F'(d). Laws of arms are alike
but not the same, `bandits.numerics.delay_laws`; how much is learned as well.

Given the shared parameters arms are independent, so the chance that each is the best is an integral
(`bandits.numerics.quadrature`) over log odds of the rates, mixed over cells of those parameters. An
arm's likelihood is a function of (log odds, μ, σ). It is known at nodes of μ, less than half a
standard deviation apart around the likeliest and ever wider beyond, and linear between them.

Times are parts of the window. Source: Chapelle (2014), "Modeling delayed feedback in display
advertising", equations 13 to 15, has the likelihood, with an exponential law and no window.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from bandits.array_types import BoolArray, FloatArray
from bandits.numerics.delay_laws import LONGEST, SHORTEST, Cells, Peaks, heaviest, place_cells
from bandits.numerics.quadrature import beta_chances, beta_edges, chances_and_totals

_COARSE = np.linspace(SHORTEST, LONGEST, 25)  # nodes of μ for a first look
_ZOOM = np.arange(-1.0, 1.5, 0.5)
_ZOOMS = 8
_INNER = 0.4 * np.arange(-9.0, 10.0)  # nodes of μ, in standard deviations
_OUTER = (np.arange(1, 13) / 12) ** 3  # beyond them, as parts of the way to the ends
_REACH = 4  # panels of log odds on each side of a mode
_PANEL, _NARROWEST = 1.5, 0.1  # their width, in standard deviations
_PRECISION = 14.0  # interpolation errs by exp(-14) of the size of a likelihood's logarithm
_NEWTON_STEPS = 20
_CLOSE = 1e-3
_FLAT = (LONGEST - SHORTEST) / 8  # the standard deviation of a likelihood that says nothing
_SMALLEST = 1e-300
_NO_GAP = 1e-9  # between nodes that were cut off at one end
_ALIKE = 1e-6  # gaps that differ by less of their size are the same
_TINY = 1e-15  # in place of no distance between two points
_LEFT_OUT = 0.002  # of the posterior: cells of little weight
_HEAVY = 10.0  # a law whose likelihood is exp(-10) of the best one's gets no panels of its own


class DelayedCounts(NamedTuple):
    """Counts of K arms as of one moment.

    Attributes:
        answered: (K,) answers, also those whose delay is not known.
        delays: (K, 3) the number, and Σ log d and Σ (log d)², of answers with a known delay d.
        silent: (K, B) sends without an answer, by group of age.
        log_ages: (K, B) the logarithm of theirs, at most 0.
        closed: (K,) sends without an answer whose window is over.
    """

    answered: FloatArray
    delays: FloatArray
    silent: FloatArray
    log_ages: FloatArray
    closed: FloatArray


def delayed_chances(counts: DelayedCounts, successes: float, failures: float) -> FloatArray:
    """Return the chance (K,) that each arm has the highest rate, with Beta priors of the rates.

    Where every window is over, delays say nothing of rates, and these are `beta_chances`.
    """
    likelihood = _RateLikelihood(counts, successes, failures)
    if not counts.silent.any():
        return beta_chances(likelihood.alpha, likelihood.beta)
    cells = place_cells(likelihood.find_peaks)
    return _Mixture(likelihood, cells).chances()


class _Fit(NamedTuple):
    """Rates that fit best given laws of delay, (K, N) each.

    Attributes:
        log_odds: of the rate that fits best.
        spread: standard deviation of the log odds.
        log_evidence: logarithm of the likelihood, integrated over the rate by Laplace's method.
    """

    log_odds: FloatArray
    spread: FloatArray
    log_evidence: FloatArray


class _RateLikelihood:
    """Likelihood of counts, as a function of log odds of the rates and of laws of delay.

    Attributes:
        alpha: (K,) answers, and the prior's.
        beta: (K,) sends whose window is over, and the prior's.
    """

    def __init__(self, counts: DelayedCounts, successes: float, failures: float) -> None:
        self.alpha = counts.answered + successes
        self.beta = counts.closed + failures
        self._counts = counts

    def take(self, arms: FloatArray) -> "_RateLikelihood":
        """Restrict to the arms of a mask (K,)."""
        part = _RateLikelihood(DelayedCounts(*(column[arms] for column in self._counts)), 0.0, 0.0)
        part.alpha, part.beta = self.alpha[arms], self.beta[arms]
        return part

    def _shares(self, mu: FloatArray, sigma: FloatArray) -> FloatArray:
        """Return F at the ages of arms, (K, N, B), for laws (K, N)."""
        z = (self._counts.log_ages[:, None, :] - mu[..., None]) / sigma[..., None]
        at_end = np.maximum(ndtr(-mu / sigma), _SMALLEST)[..., None]
        return np.minimum(ndtr(z) / at_end, 1.0)

    def _log_delays(self, mu: FloatArray, sigma: FloatArray) -> FloatArray:
        """Return the log likelihood of the delays of answers, (K, N), for laws (K, N)."""
        n, first, second = (column[:, None] for column in self._counts.delays.T)
        around = second - 2 * mu * first + n * mu**2
        log_end = log_ndtr(-mu / sigma)
        return -n * (np.log(sigma) + log_end) - around / (2 * sigma**2)

    def fit(self, mu: FloatArray, sigma: FloatArray) -> _Fit:
        """Fit rates to laws (K, N).

        With h = s F the mode solves odds = α / (β + Σ h / (1 + odds (1 − F))). Newton's method for
        log odds finds it, between the odds if nobody answered any more, and if all still could.
        """
        shares, silent = self._shares(mu, sigma), self._counts.silent[:, None, :]
        alpha, beta = self.alpha[:, None], self.beta[:, None]
        rest, held = 1 - shares, silent * shares
        least, most = alpha / (beta + held.sum(axis=-1)), alpha / beta
        odds = least
        for _ in range(_NEWTON_STEPS):
            one = 1 + odds[..., None] * rest
            part = held / one
            total = beta + part.sum(axis=-1)
            gain = 1 - odds * (part * rest / one).sum(axis=-1) / total
            step = (np.log(alpha / total) - np.log(odds)) / gain
            odds = np.clip(odds * np.exp(np.clip(step, -4, 4)), least, most)
            if np.abs(step).max() < _CLOSE:
                break
        one = 1 + odds[..., None] * rest
        count = alpha + beta + silent.sum(axis=-1)
        curvature = odds * (count / (1 + odds) ** 2 - (silent * rest / one**2).sum(axis=-1))
        spread = 1 / np.sqrt(np.maximum(curvature, 1e-6))
        log_odds = np.log(odds)
        at_mode = alpha * log_odds - count * np.log1p(odds) + (silent * np.log(one)).sum(axis=-1)
        return _Fit(log_odds, spread, at_mode + np.log(spread) + self._log_delays(mu, sigma))

    def find_peaks(self, sigma: FloatArray, around: Peaks | None) -> Peaks:
        """Find the likeliest μ of every arm for each σ (S,), from a coarse grid or `around`.

        Returns:
            μ, the standard deviation around it, and the logarithm of the likelihood, (K, S) each.
        """
        n_arms = len(self.alpha)
        if around is None:
            mu = np.tile(np.repeat(_COARSE, len(sigma)), (n_arms, 1))
            fit = self.fit(mu, np.tile(sigma, (n_arms, len(_COARSE))))
            heights = fit.log_evidence.reshape(n_arms, len(_COARSE), len(sigma))
            center = _COARSE[heights.argmax(axis=1)]
            step = np.full(center.shape, _COARSE[1] - _COARSE[0])
        else:
            center, step, _ = around
        for _ in range(_ZOOMS):
            mu = np.clip(center[..., None] + step[..., None] * _ZOOM, SHORTEST, LONGEST)
            laws = np.broadcast_to(sigma[:, None], mu.shape).reshape(n_arms, -1)
            heights = self.fit(mu.reshape(n_arms, -1), laws).log_evidence.reshape(mu.shape)
            best = heights.argmax(axis=-1)[..., None]
            center = np.take_along_axis(mu, best, axis=-1)[..., 0]
            inside = np.clip(best, 1, len(_ZOOM) - 2)
            left, here, right = (
                np.take_along_axis(heights, inside + i, axis=-1)[..., 0] for i in (-1, 0, 1)
            )
            curvature = (2 * here - left - right) / (step / 2) ** 2
            spread = 1 / np.sqrt(np.maximum(curvature, _FLAT**-2))
            if ((step <= spread) & (best == inside)[..., 0]).all():
                break
            step = np.where(step > spread, step / 2, step)
        return center, spread, heights.max(axis=-1)

    def log_at(
        self, mu: FloatArray, sigma: FloatArray, edges: FloatArray, log_odds: FloatArray
    ) -> FloatArray:
        """Return the log likelihood of laws (K, N) at log odds (Q,), (K, N, Q).

        Args:
            mu: of the laws.
            sigma: of the laws.
            edges: (K, e) ascending; beyond an arm's its likelihood is taken to be 0.
            log_odds: where.
        """
        rest, delays = 1 - self._shares(mu, sigma), self._log_delays(mu, sigma)
        out = np.empty((*mu.shape, len(log_odds)))
        softplus = np.logaddexp(0, log_odds)
        for arm, silent in enumerate(self._counts.silent):
            low, high = edges[arm, [0, -1]]
            nodes, to_values = _interpolation(low, high, log_odds)
            smooth = np.log1p(np.exp(nodes)[:, None, None] * rest[arm]) @ silent  # (C, N)
            count = self.alpha[arm] + self.beta[arm] + silent.sum()
            exact = self.alpha[arm] * log_odds - count * softplus
            exact[(log_odds < low) | (log_odds > high)] = -np.inf
            np.matmul(smooth.T, to_values.T, out=out[arm])
            out[arm] += exact + delays[arm][:, None]
        return out


class _Mixture:
    """Mixture of independent arms over cells of the parameters that they share."""

    def __init__(self, likelihood: _RateLikelihood, cells: Cells) -> None:
        self._likelihood = likelihood
        self._mu = _nodes_around(cells.peaks, cells.spreads)  # (K, S, J)
        n_arms, *_ = self._mu.shape
        self._sigma = np.broadcast_to(cells.sigma[:, None], self._mu.shape).reshape(n_arms, -1)
        self._fit = likelihood.fit(self._mu.reshape(n_arms, -1), self._sigma)
        self._top = self._fit.log_evidence.max(axis=1)
        heights = np.exp(self._fit.log_evidence - self._top[:, None]).reshape(self._mu.shape)
        weights = _hat_weights(self._mu[:, cells.of_sigma], cells.m[:, None], cells.tau[:, None])
        _sharpen(weights, _is_amid(self._mu)[:, cells.of_sigma])
        evidence = np.einsum("kcj,kcj->kc", weights, heights[:, cells.of_sigma])
        log_evidence = np.log(np.maximum(evidence, _SMALLEST))
        kept = heaviest(cells.log_prior + log_evidence.sum(axis=0), _LEFT_OUT)
        self._cells, self._weights = cells.take(kept), weights[:, kept]
        self._log_evidence = log_evidence[:, kept]

    def chances(self) -> FloatArray:
        """Return the chance of each arm to be the best, (K,); none for one without any hope."""
        edges = self._edges()
        hopeful = edges[:, -1] >= edges[:, 0].max()
        out = np.zeros(len(edges))
        if np.count_nonzero(hopeful) == 1:
            return hopeful.astype(np.float64)
        part, of_sigma = self._likelihood.take(hopeful), self._cells.of_sigma
        n_arms, n_sigma, n_nodes = np.count_nonzero(hopeful), len(self._cells.sigma), _N_NODES
        laws = self._mu[hopeful].reshape(n_arms, -1), self._sigma[hopeful]
        weights, top = self._weights[hopeful], self._top[hopeful, None, None]

        def densities(points: FloatArray) -> FloatArray:
            like = part.log_at(*laws, edges[hopeful], points.reshape(-1))
            like -= top
            like = np.exp(like, out=like).reshape(n_arms, n_sigma, n_nodes, -1)
            density = np.empty((len(of_sigma), n_arms, like.shape[-1]))
            for sigma in np.unique(of_sigma):
                rows = of_sigma == sigma
                density[rows] = (weights[:, rows] @ like[:, sigma]).swapaxes(0, 1)
            np.maximum(density, 0.0, out=density)
            return density.reshape(*density.shape[:2], *points.shape[2:])

        chances, totals = chances_and_totals(edges[None, hopeful], densities)
        log_posterior = self._cells.log_prior + self._log_evidence[~hopeful].sum(axis=0)
        log_posterior += np.log(totals).sum(axis=1)
        posterior = np.exp(log_posterior - log_posterior.max())
        out[hopeful] = posterior @ chances / posterior.sum()
        return out

    def _edges(self) -> FloatArray:
        """Return edges of panels of log odds, (K, e): over all modes, and their tails."""
        log_odds, spread, log_evidence = self._fit
        heavy = log_evidence - self._top[:, None] > -_HEAVY
        lowest = np.where(heavy, log_odds, np.inf).min(axis=1)
        highest = np.where(heavy, log_odds, -np.inf).max(axis=1)
        narrowest = np.where(heavy, spread, np.inf).min(axis=1)
        n = max(1, int(np.ceil(((highest - lowest) / narrowest).max() / _PANEL)))
        highest = np.maximum(highest, lowest + _NARROWEST * n * narrowest)  # no panel is empty
        between = lowest[:, None] + (highest - lowest)[:, None] * np.arange(1, n) / n
        alpha = self._likelihood.alpha
        left = beta_edges(alpha, alpha * np.exp(-lowest), _REACH, _PANEL)[:, : _REACH + 1]
        right = beta_edges(alpha, alpha * np.exp(-highest), _REACH, _PANEL)[:, _REACH:]
        return np.concatenate([left, between, right], axis=1)


_N_NODES = len(_INNER) + 2 * len(_OUTER)


def _nodes_around(peaks: FloatArray, spreads: FloatArray) -> FloatArray:
    """Return nodes of μ around peaks (K, S), ascending from end to end: (K, S, J)."""
    inner = np.clip(peaks[..., None] + spreads[..., None] * _INNER, SHORTEST, LONGEST)
    first, last = inner[..., :1], inner[..., -1:]
    lower = first - (first - SHORTEST) * _OUTER[::-1]
    upper = last + (LONGEST - last) * _OUTER
    return np.concatenate([lower, inner, upper], axis=-1)


def _hat_weights(nodes: FloatArray, m: FloatArray, tau: FloatArray) -> FloatArray:
    """Integrate the hat function of each node (..., J) against N(m, tau²), exactly."""
    z = (nodes - m) / tau
    below, density = ndtr(z), np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    mass, gap = np.diff(below, axis=-1), np.diff(z, axis=-1)
    beyond = np.divide(
        -np.diff(density, axis=-1) - z[..., :-1] * mass,
        gap,
        where=gap > _NO_GAP,
        out=np.zeros(mass.shape),
    )
    beyond = np.clip(beyond, 0, mass)
    weights = np.zeros(z.shape)
    weights[..., :-1] += mass - beyond
    weights[..., 1:] += beyond
    weights[..., 0] += below[..., 0]
    weights[..., -1] += ndtr(-z[..., -1])
    return weights


def _is_amid(nodes: FloatArray) -> BoolArray:
    """Mark nodes (..., J) that are as far from the one before as from the one after."""
    gap = np.diff(nodes, axis=-1)
    amid = np.zeros(nodes.shape, dtype=np.bool_)
    amid[..., 1:-1] = np.abs(gap[..., 1:] - gap[..., :-1]) < _ALIKE * gap[..., 1:]
    return amid


def _sharpen(weights: FloatArray, amid: BoolArray) -> None:
    """Take from weights (..., J) what linear interpolation adds to a second moment, in place.

    Between nodes h apart it spreads what is at a place by a variance of h²/6. A twelfth of the
    second difference undoes that, so that the error falls with h⁴.
    """
    part = np.where(amid, weights, 0.0) / 12
    weights += 2 * part
    weights[..., 1:] -= part[..., :-1]
    weights[..., :-1] -= part[..., 1:]


def _interpolation(low: float, high: float, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Chebyshev nodes (C,) between two ends, and the matrix (Q, C) to values at y (Q,).

    log(1 + e^y c) is analytic where the imaginary part of y is below π: so many nodes are needed.
    """
    distance = 2 * np.pi / (high - low)
    n = int(np.ceil(_PRECISION / np.log(distance + np.sqrt(1 + distance**2)))) + 1
    angles = np.pi * (np.arange(n) + 0.5) / n
    nodes = np.cos(angles)
    x = np.clip(2 * (y[:, None] - low) / (high - low) - 1, -1, 1)
    gap = x - nodes
    part = np.where(np.arange(n) % 2, -1, 1) * np.sin(angles) / np.where(gap == 0, _TINY, gap)
    return low + (high - low) * (nodes + 1) / 2, part / part.sum(axis=1, keepdims=True)
