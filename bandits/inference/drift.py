"""Drift: a test of constant rates, without which their intervals do not hold.

Each period's reward is compared with what its sends would have earned at every arm's mean over the
whole time. The residuals Z (P,) of all arms together have covariance Σ_k v_k (diag n_k − n_k n_kᵀ /
N_k), n_k (P,) the arm's decisions by period, N_k their sum and v_k the variance of its reward, so
Zᵀ C⁺ Z is χ² with P − 1 degrees of freedom: the score test of a stratified table (Mantel, 1963),
with arms as strata. Arms are added up because what moves is mostly what they share, the weekday.
"""

import numpy as np
from scipy.special import chdtrc

from bandits.array_types import FloatArray

FOUND = 0.001  # strict, since it is looked at often
_FEWEST = 10.0  # successes that a period needs for χ² to fit
_NULL = 1e-9  # an eigenvalue this small, relative to the largest, is no degree of freedom


def drift_p_value(count: FloatArray, total: FloatArray, square: FloatArray) -> float:
    """Return the p-value of "no arm's mean reward changed"; 1 on too little data.

    Args:
        count: (P, K) decisions whose window has closed, by period and arm.
        total: (P, K) Σ r over them.
        square: (P, K) Σ r².
    """
    n = np.maximum(count.sum(axis=0), 1.0)
    mean = total.sum(axis=0) / n
    variance = np.maximum(square.sum(axis=0) / n - mean**2, 0.0)
    merging = _merging(total.sum(axis=1), square.sum(axis=1))
    counts, totals = merging @ count, merging @ total
    covariance = np.diag(counts @ variance) - (counts * (variance / n)) @ counts.T
    values, vectors = np.linalg.eigh(covariance)
    kept = values > _NULL * values.max(initial=0.0)
    residual = vectors[:, kept].T @ (totals - counts * mean).sum(axis=1)
    freedom = np.count_nonzero(kept)
    return float(chdtrc(freedom, np.sum(residual**2 / values[kept]))) if freedom else 1.0


def _merging(total: FloatArray, square: FloatArray) -> FloatArray:
    """Return which of P periods to add up, (merged, P) of 0 and 1, so that none has too little.

    Successes are counted as (Σ r)² / Σ r², which is their number where each earns the same.
    """
    groups: list[int] = []
    group, sum_, squares = 0, 0.0, 0.0
    for t, q in zip(total.tolist(), square.tolist(), strict=True):
        groups.append(group)
        sum_, squares = sum_ + t, squares + q
        if sum_**2 >= _FEWEST * squares > 0:
            group, sum_, squares = group + 1, 0.0, 0.0
    complete = max(group, 1)  # what is left over joins the last
    return np.eye(complete)[:, np.minimum(np.array(groups, dtype=np.int64), complete - 1)]
