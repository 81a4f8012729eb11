"""AIPW: mean rewards of arms from decisions whose shares moved, by inverse-propensity weights.

The score of arm k in decision t is φ_t(k) = m_k + 1{A_t = k} (R_t − m_k) / π_t(k) (Robins,
Rotnitzky and Zhao, 1994; for logged policies Dudík, Langford and Li, 2011, "Doubly robust policy
evaluation and learning", section 2). Its mean given the past is that decision's true mean reward of
arm k, whatever the policy did, whatever the prediction m_k, and however the rate moves: shares and
rates may move together without harm.

**The prediction.** A fold keeps sums, in any order, and takes terms out again, so a score may not
depend on what was predicted when its decision was made, unless that were logged too. A constant m_k
needs nothing of the kind: every sum of scores and of their squares, for *any* contrast of arms, is
a polynomial in m with coefficients Σ 1{A = k} R^i π^(−j), i and j from 0 to 2. Those nine sums per
arm are kept, and m is set when they are read, to the inverse-propensity weighted mean reward of the
arm (the ratio estimate of Hájek, 1971). Against the best constant that adds (m̂ − m)(1 − Σ w / n) to
the mean of scores, a product of two errors that both vanish like n^(−1/2): nothing, to the order at
which the interval is valid. A prediction from the context could take off the share of the variance
that lies between contexts: Var p(x) / p̄ (1 − p̄) for a click, p(x) its rate. Where half of the
recipients click at .30 and half at .10 that is 6 % of the variance and 3 % of the width; where they
do at .50 and .02, 30 % and 16 %. It is given up for sums that can be added in any order.

**The variance.** Σ (score − mean)² is right in the limit and treacherous before: an arm with bad
luck is given fewer sends, at a larger weight each, so its sum of squares is small exactly when its
mean is too low, and a nominal 5 % ever errs 10 to 20 %. The conditional variance of
(R − m_k) 1{A = k} / π is v_k / π, v_k the variance of the reward. So it is estimated as v_k Σ w²,
where v_k is drawn towards the variance over all arms as if that had come from fifty more events,
and never below the arm's own; the larger of this and the sum of squares counts. ADR 20 lists the
worlds that it was tried in, how often it errs there, and what it costs in width.

**The interval** is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas (2024, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics; arXiv 2103.06476), the martingale version, theorem 2.5: with S the sum of n scores and V
the sum of their variances, S/n ± sqrt((V + 1/ρ²) log((ρ² V + 1) / α²)) / n.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from bandits.array_types import BoolArray, FloatArray
from bandits.inference.aipw_sums import POWERS, AipwSums, ratio

_TIGHTEST = 200.0  # conversions of all arms at which the interval is at its tightest
_TINY = 1e-300  # stands for 0 where one divides, and the quotient is not used


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The sum of n scores of one contrast; every field is (...,).

    Attributes:
        n: decisions that it is a sum over.
        total: Σ score.
        variation: the sum of the scores' variances given the past, estimated.
        variation_expected: what it would be, with equal shares, at `_TIGHTEST` conversions.
        conversions: decisions of the compared arms that earned something.
        fewest_sends: decisions of whichever compared arm has the fewest.
    """

    n: FloatArray
    total: FloatArray
    variation: FloatArray
    variation_expected: FloatArray
    conversions: FloatArray
    fewest_sends: FloatArray

    @property
    def mean(self) -> FloatArray:
        """The estimate per decision; 0 without any."""
        return self.total / np.maximum(self.n, 1.0)

    @property
    def error(self) -> FloatArray:
        """The standard error of the estimate; 0 without any."""
        return np.sqrt(self.variation) / np.maximum(self.n, 1.0)

    @property
    def negated(self) -> "Scores":
        """The scores of the opposite contrast."""
        return replace(self, total=-self.total)

    def margin(self, alpha: float) -> FloatArray:
        """Return how far `total` may be from its mean given the past, at all times at once.

        ρ² makes the interval tightest where V is `variation_expected`, by the approximation that
        Waudby-Smith et al. give for that: ρ² V = −2 log α + log(1 − 2 log α). It must not follow
        the data, and does not but for the size of a conversion, which is 1 where a reward is 0 or
        1.
        """
        tightest = -2 * np.log(alpha) + np.log1p(-2 * np.log(alpha))
        precision = tightest / np.maximum(self.variation_expected, _TINY)
        inside = np.log1p(precision * self.variation) - 2 * np.log(alpha)
        return np.sqrt((self.variation + 1 / precision) * inside)


def contrast(evidence: AipwSums, weights: FloatArray) -> Scores:
    """Score Σ_k c_k μ(k), over decisions that could have got every arm with a weight.

    Args:
        evidence: the sums over those decisions, and others.
        weights: (K,) c; one arm alone is its value, +1 and −1 are a lift.
    """
    used = np.all(evidence.eligible[:, weights != 0], axis=-1)
    return _scored(evidence, used, np.broadcast_to(weights, evidence.eligible.shape), policy=0.0)


def contrast_rows(evidence: AipwSums, weights: FloatArray) -> Scores:
    """Score several contrasts at once, as `contrast` does: weights (C, K), fields (C,).

    Args:
        evidence: without leading axes.
        weights: (C, K) c of each.
    """
    used = np.all(evidence.eligible | (weights == 0)[:, None, :], axis=-1)
    if (used == used[:1]).all():  # nearly always, and there is nothing to sort then
        sets, rows = used[:1], np.zeros(len(used), dtype=np.int64)
    else:
        sets, rows = np.unique(used, axis=0, return_inverse=True)
    out = Scores(*np.zeros((len(fields(Scores)), len(weights))))
    for number, strata in enumerate(sets):
        at = np.flatnonzero(rows.reshape(-1) == number)
        c = np.broadcast_to(weights[at][:, None, :], (len(at), len(strata), evidence.n_arms))
        scores = _scored(evidence, strata, c, policy=0.0)
        for field in fields(Scores):
            getattr(out, field.name)[at] = getattr(scores, field.name)
    return out


def equal_split(evidence: AipwSums) -> Scores:
    """Score the mean of μ over the arms that each decision could have got."""
    return _scored(evidence, _everything(evidence), _equal_shares(evidence), policy=0.0)


def gain_over_equal_split(evidence: AipwSums) -> Scores:
    """Score R less the mean of μ over the arms that each decision could have got.

    Its sum is what the policy earned more than equal shares would have.
    """
    return _scored(evidence, _everything(evidence), -_equal_shares(evidence), policy=1.0)


def personal_gain(evidence: AipwSums, arm: int) -> Scores:
    """Score R less μ(arm), over decisions that could have got the arm.

    Its sum is what a policy that chooses by recipient earned more than that arm alone would have.
    """
    weights = np.zeros(evidence.n_arms)
    weights[arm] = -1.0
    used = evidence.eligible[:, arm]
    return _scored(evidence, used, np.broadcast_to(weights, evidence.eligible.shape), policy=1.0)


def _scored(evidence: AipwSums, used: BoolArray, weights: FloatArray, *, policy: float) -> Scores:
    """Score c·μ + policy · R over the strata that are `used` (G,), weights c (..., G, K)."""
    mean, variance, conversion = evidence.prediction
    mean, variance = mean[..., None, :], variance[..., None, :]
    moments, c = evidence.moments[..., used, :, :, :], weights[..., used, :]
    sends = moments[..., 0, 0, :]
    n = sends.sum(axis=(-2, -1))
    # A score is e_k + policy (R − m_k) + c_k (R − m_k) / π, where arm k was sent.
    expected = (c * mean).sum(axis=-1, keepdims=True) + policy * mean
    noise = policy * _around(moments, mean, 0) + c * _around(moments, mean, 1)
    total = (expected * sends + noise).sum(axis=(-2, -1))
    observed = _squares(moments, mean, c, policy) + 2 * expected * noise
    modelled = variance * _exposure(moments, c, policy)
    within = np.maximum(observed.sum(axis=(-2, -1)), modelled.sum(axis=(-2, -1)))
    between = (expected**2 * sends).sum(axis=(-2, -1)) - ratio(total**2, n)
    spread = (c**2).sum(axis=-1) * evidence.eligible[used].sum(axis=-1)
    spread = ratio((spread * sends.sum(axis=-1)).sum(axis=-1), n)
    compared = evidence.eligible[used].any(axis=0) & (c != 0).any(axis=-2)
    fewest = np.where(compared, sends.sum(axis=-2), np.inf).min(axis=-1, initial=np.inf)
    return Scores(
        n,
        total,
        np.maximum(within + between, 0.0),
        _TIGHTEST * spread * conversion,
        np.where(compared, evidence.earning[..., used, :].sum(axis=-2), 0.0).sum(axis=-1),
        fewest,
    )


def _everything(evidence: AipwSums) -> BoolArray:
    return np.ones(len(evidence.eligible), dtype=np.bool_)


def _equal_shares(evidence: AipwSums) -> FloatArray:
    return evidence.eligible / evidence.eligible.sum(axis=-1, keepdims=True)


def _around(moments: FloatArray, mean: FloatArray, power: int) -> FloatArray:
    """Return Σ (R − m) π^(−power) by stratum and arm, (..., G, K)."""
    return moments[..., 1, power, :] - mean * moments[..., 0, power, :]


def _squares(moments: FloatArray, mean: FloatArray, c: FloatArray, policy: float) -> FloatArray:
    """Return Σ ((policy + c / π) (R − m))² by stratum and arm, (..., G, K)."""
    zeroth, first, second = (
        moments[..., 2, j, :] - 2 * mean * moments[..., 1, j, :] + mean**2 * moments[..., 0, j, :]
        for j in range(POWERS)
    )
    return policy**2 * zeroth + 2 * policy * c * first + c**2 * second


def _exposure(moments: FloatArray, c: FloatArray, policy: float) -> FloatArray:
    """Return Σ (policy + c / π)² by stratum and arm, (..., G, K)."""
    zeroth, first, second = (moments[..., 0, j, :] for j in range(POWERS))
    return policy**2 * zeroth + 2 * policy * c * first + c**2 * second
