"""Laws of delay that arms share in part: where their parameters lie, and the weight of each place.

Arm k's delays are log-normal(μ_k, σ) with μ_k ~ N(m, τ²). Given (σ, τ, m) arms are independent, so
what is integrated over these three is a sum over cells: nodes of σ evenly spaced around where it
lies, for each of them Gauss–Legendre nodes of log τ, and for each pair nodes of m. All follow from
normal approximations of the arms' likelihoods of μ, which only place the nodes and leave out cells
of no weight; the sums themselves are of the likelihoods. Times are parts of the window.

Priors: log σ ~ N(log 1.1, .5²), since mailers' delays have σ of about 1; m ~ N(log .08, 1.5²); log
τ uniform, between laws that are the same and laws that know nothing of each other.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre

from bandits.array_types import BoolArray, FloatArray, IntArray

SHORTEST, LONGEST = np.log(1e-4), np.log(8.0)  # of μ: medians from 1/10,000 of a window to eight
_M_CENTER, _M_SPREAD = np.log(0.08), 1.5
_SIGMA_CENTER, _SIGMA_SPREAD = np.log(1.1), 0.5  # of log σ
_SIGMA_ENDS = np.log([0.1, 4.0])
_LOG_TAUS = np.linspace(np.log(0.05), np.log(1.6), 29)
_SIGMA_STEPS = 0.75 * np.arange(-4.5, 5.0)  # nodes, in standard deviations
_M_STEPS = 1.1 * np.arange(-3.0, 4.0)
_TAU_NODES, _TAU_WEIGHTS = legendre.leggauss(5)
_TAU_REACH = 3.5
_ROUNDS = 8  # of placing σ, until little weight is at the ends and nodes are not too far apart
_AT_ENDS, _NARROW = 0.05, 0.75
_NEGLIGIBLE = 1e-5  # weight of all cells together that are left out at first

Peaks = tuple[FloatArray, FloatArray, FloatArray]


class Cells(NamedTuple):
    """Cells (C,) of σ, τ and m.

    Attributes:
        sigma: (S,) the nodes of σ.
        peaks: μ of every arm that is the likeliest at each σ, (K, S).
        spreads: standard deviations of the arms' likelihoods of μ around these, (K, S).
        of_sigma: (C,) which σ each cell has.
        tau: (C,).
        m: (C,).
        log_prior: (C,) logarithm of prior density and volume.
    """

    sigma: FloatArray
    peaks: FloatArray
    spreads: FloatArray
    of_sigma: IntArray
    tau: FloatArray
    m: FloatArray
    log_prior: FloatArray

    def take(self, kept: BoolArray) -> "Cells":
        """Return those of a mask (C,)."""
        return self._replace(
            of_sigma=self.of_sigma[kept],
            tau=self.tau[kept],
            m=self.m[kept],
            log_prior=self.log_prior[kept],
        )


def place_cells(find_peaks: Callable[[FloatArray, Peaks | None], Peaks]) -> Cells:
    """Place cells where the posterior of the shared parameters is.

    Args:
        find_peaks: from nodes of σ (S,), and what it returned for nodes close by if anything, to
            the likeliest μ of every arm, the spread of that likelihood, and the logarithm of its
            height, (K, S) each.
    """
    center, width, peaks = _SIGMA_CENTER, _SIGMA_SPREAD, None
    for _ in range(_ROUNDS):
        nodes = np.clip(center + width * _SIGMA_STEPS, *_SIGMA_ENDS)
        at_nodes = peaks = find_peaks(np.exp(nodes), peaks)
        log_evidence = _evidence_of_taus(*peaks)
        weight = np.exp(log_evidence - log_evidence.max()).sum(axis=0)
        weight *= np.exp(-(((nodes - _SIGMA_CENTER) / _SIGMA_SPREAD) ** 2) / 2)
        weight /= weight.sum()
        mean = float(weight @ nodes)
        spread = float(np.sqrt(weight @ (nodes - mean) ** 2))
        if weight[0] + weight[-1] < _AT_ENDS and spread > _NARROW * width:
            break
        near = np.abs(nodes - mean).argmin()
        mu, spreads, heights = (np.repeat(p[:, [near]], len(nodes), axis=1) for p in peaks)
        peaks = mu, spreads, heights
        center, width = mean, min(max(1.1 * spread, width / 4), _SIGMA_SPREAD)
    return _cells_around(nodes, at_nodes, log_evidence)


def _over_m(variance: FloatArray, mu: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and precision of m where arms' μ (K, S) have variances (T, K, S): (T, S) each."""
    precision = (1 / variance).sum(axis=1) + 1 / _M_SPREAD**2
    return ((mu / variance).sum(axis=1) + _M_CENTER / _M_SPREAD**2) / precision, precision


def _evidence_of_taus(mu: FloatArray, spread: FloatArray, height: FloatArray) -> FloatArray:
    """Return the log evidence of every log τ and σ, (T, S), integrated over m."""
    variance = np.exp(2 * _LOG_TAUS)[:, None, None] + spread**2
    mean, precision = _over_m(variance, mu)
    square = (mu**2 / variance).sum(axis=1) + _M_CENTER**2 / _M_SPREAD**2
    fit = square - precision * mean**2 + np.log(precision) + np.log(variance).sum(axis=1)
    evidence: FloatArray = (height + np.log(spread)).sum(axis=0) - fit / 2
    return evidence


def _cells_around(log_sigma: FloatArray, peaks: Peaks, log_evidence: FloatArray) -> Cells:
    mu, spread, height = peaks
    weight = np.exp(log_evidence - log_evidence.max(axis=0))
    weight /= weight.sum(axis=0)
    center = _LOG_TAUS @ weight
    width = _TAU_REACH * np.sqrt(np.maximum(_LOG_TAUS**2 @ weight - center**2, 1e-4))
    first, last = (
        np.maximum(center - width, _LOG_TAUS[0]),
        np.minimum(center + width, _LOG_TAUS[-1]),
    )
    half = (last - first) / 2
    tau = np.exp(first + half * (_TAU_NODES[:, None] + 1))  # (T, S)
    variance = tau[:, None, :] ** 2 + spread**2
    mean, precision = _over_m(variance, mu)
    m = mean + _M_STEPS[:, None, None] / np.sqrt(precision)  # (M, T, S)
    volumes = (
        np.log(_TAU_WEIGHTS[:, None] * half)
        - np.log(precision) / 2
        + np.log(np.maximum(np.gradient(log_sigma), 1e-12))
    )
    prior = ((log_sigma - _SIGMA_CENTER) / _SIGMA_SPREAD) ** 2 + ((m - _M_CENTER) / _M_SPREAD) ** 2
    log_prior = volumes - prior / 2
    misfit = ((mu - m[:, :, None, :]) ** 2 / variance + np.log(variance)).sum(axis=2)
    rough = log_prior + (height + np.log(spread)).sum(axis=0) - misfit / 2
    kept = heaviest(rough, _NEGLIGIBLE)
    of_sigma = np.broadcast_to(np.arange(len(log_sigma)), m.shape)[kept]
    taus = np.broadcast_to(tau, m.shape)[kept]
    return Cells(np.exp(log_sigma), mu, spread, of_sigma, taus, m[kept], log_prior[kept])


def heaviest(log_weights: FloatArray, left_out: float) -> BoolArray:
    """Mark the heaviest of cells, so that the others hold at most a part of the weight."""
    weights = np.exp(log_weights - log_weights.max()).ravel()
    order = weights.argsort()
    light = np.cumsum(weights[order]) <= left_out * weights.sum()
    kept = np.ones(len(weights), dtype=np.bool_)
    kept[order[light]] = False
    return kept.reshape(log_weights.shape)
