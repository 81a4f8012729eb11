"""What arms are worth, from decisions whose shares moved: augmented inverse-propensity weighting.

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
which the interval is valid. A prediction from the context would help little, since most of the
variance of a click is its own.

**The variance.** Σ (score − mean)² is right in the limit and treacherous before: an arm with bad
luck is given fewer sends, at a larger weight each, so its sum of squares is small exactly when its
mean is too low, and a nominal 5 % ever errs 10 to 20 %. The conditional variance of
(R − m_k) 1{A = k} / π is v_k / π, v_k the variance of the reward. So it is estimated as v_k Σ w²,
where v_k is drawn towards the variance over all arms as if that had come from `_PRIOR_EVENTS` more
events, and never below the arm's own; the larger of this and the sum of squares counts. That ever
errs in 4 % of campaigns or less in every case tried. It costs no width where arms are alike, 9 %
where one is half as good again, 29 % where one is twice as good: there a winner is plain anyway.

**The interval** is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas (2024, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics; arXiv 2103.06476), the martingale version, theorem 2.5: with S the sum of n scores and V
the sum of their variances, S/n ± sqrt((V + 1/ρ²) log((ρ² V + 1) / α²)) / n.
"""

from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from bandits.arrays import BoolArray, FloatArray, IntArray

_POWERS = 3  # of rewards and of inverse propensities: 0, 1, 2
_PRIOR_EVENTS = 50.0  # what the variance over all arms counts for in each arm's
_TIGHTEST = 200.0  # conversions of all arms at which the interval is at its tightest
_LITTLE = "<f8"  # how arrays are stored, whatever the machine
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


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums over decisions from which every contrast of arms can be estimated; additive.

    Decisions are kept apart by stratum, the set of arms that each could have got, in a canonical
    order, so that sums agree however they were put together. The axes before the stratum axis
    broadcast (replications, say) and share their strata. One stratum takes 10 K numbers.

    Attributes:
        eligible: (G, K) which arms a decision of each stratum could have got; rows differ.
        moments: (..., G, 3, 3, K), Σ 1{A = k} R^i π^(−j) at [..., i, j, k].
        earning: (..., G, K) decisions with a reward other than 0.
    """

    eligible: BoolArray
    moments: FloatArray
    earning: FloatArray

    @classmethod
    def zeros(cls, n_arms: int, lead: tuple[int, ...] = ()) -> "Evidence":
        """Make the sums over no decision."""
        return cls(
            np.zeros((0, n_arms), dtype=np.bool_),
            np.zeros((*lead, 0, _POWERS, _POWERS, n_arms)),
            np.zeros((*lead, 0, n_arms)),
        )

    @classmethod
    def of(  # noqa: PLR0913 - one for each column of the log
        cls,
        eligible: BoolArray,
        strata: IntArray,
        arms: IntArray,
        rewards: FloatArray,
        propensities: FloatArray,
        *,
        earned: BoolArray | None = None,
    ) -> "Evidence":
        """Sum n decisions.

        Args:
            eligible: (G, K) sets of arms.
            strata: (n,) which of those sets each decision could choose from.
            arms: (n,) what it got.
            rewards: (n,) what it earned, its window closed.
            propensities: (n,) the logged probability of what it got.
            earned: (n,) whether that counts as a conversion; unless given, any reward but 0 does.

        Raises:
            ValueError: a propensity is not in (0, 1].
        """
        everybody = np.zeros((1, len(arms)), dtype=np.int64)
        one = cls.by_segment(
            eligible,
            strata,
            arms,
            rewards,
            propensities,
            segments=everybody,
            n_segments=1,
            earned=earned,
        )
        return cls(one.eligible, one.moments[0], one.earning[0])

    @classmethod
    def by_segment(  # noqa: PLR0913 - one for each column of the log
        cls,
        eligible: BoolArray,
        strata: IntArray,
        arms: IntArray,
        rewards: FloatArray,
        propensities: FloatArray,
        *,
        segments: IntArray,
        n_segments: int,
        earned: BoolArray | None = None,
    ) -> "Evidence":
        """Sum n decisions in each segment that they belong to; the segments are the leading axis.

        Args:
            eligible: as are the next four, of `of`.
            strata: (n,).
            arms: (n,).
            rewards: (n,).
            propensities: (n,).
            segments: (F, n) which segment, by each of F features.
            n_segments: how many there are.
            earned: (n,), of `of`.

        Raises:
            ValueError: a propensity is not in (0, 1].
        """
        if not np.all((propensities > 0) & (propensities <= 1)):
            raise ValueError("propensities must lie in (0, 1]")
        n_sets, n_arms = eligible.shape
        size = n_sets * n_arms
        cells = segments * size + (strata * n_arms + arms)

        def total(values: FloatArray) -> FloatArray:
            sums = np.zeros(n_segments * size)
            for of_feature in cells:
                sums += np.bincount(of_feature, values, n_segments * size)
            return sums.reshape(n_segments, n_sets, n_arms)

        weights = 1 / propensities
        powers = [total(rewards**i * weights**j) for i in range(_POWERS) for j in range(_POWERS)]
        shape = (n_segments, n_sets, _POWERS, _POWERS, n_arms)
        conversions = rewards != 0 if earned is None else earned
        return _canonical(
            eligible,
            np.stack(powers, axis=2).reshape(shape),
            total(conversions.astype(np.float64)),
        )

    def __add__(self, other: "Evidence") -> "Evidence":
        return self._joined(other, 1.0)

    def __sub__(self, other: "Evidence") -> "Evidence":
        return self._joined(other, -1.0)

    def _joined(self, other: "Evidence", sign: float) -> "Evidence":
        return _canonical(
            np.concatenate([self.eligible, other.eligible]),
            np.concatenate([self.moments, sign * other.moments], axis=-4),
            np.concatenate([self.earning, sign * other.earning], axis=-2),
        )

    def spread(self, eligible: BoolArray) -> "Evidence":
        """Give every stratum of `eligible` (G, K) its place, which must include all there are."""
        places = {row.tobytes(): i for i, row in enumerate(eligible)}
        taken = [places[row.tobytes()] for row in self.eligible]
        *lead, _, n_arms = self.earning.shape
        moments = np.zeros((*lead, len(eligible), _POWERS, _POWERS, n_arms))
        earning = np.zeros((*lead, len(eligible), n_arms))
        moments[..., taken, :, :, :], earning[..., taken, :] = self.moments, self.earning
        return Evidence(eligible, moments, earning)

    def padded(self, n_arms: int) -> "Evidence":
        """Append arms that nobody could get, until there are `n_arms`."""
        missing = n_arms - self.eligible.shape[-1]

        def grown(array: FloatArray) -> FloatArray:
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])

        eligible = np.pad(self.eligible, [(0, 0), (0, missing)])
        return Evidence(eligible, grown(self.moments), grown(self.earning))

    @property
    def negated(self) -> "Evidence":
        """The same decisions, each reward taken as −R: where less is better, more is."""
        signs = np.array([1.0, -1.0, 1.0])[:, None, None]
        return Evidence(self.eligible, self.moments * signs, self.earning)

    def contrast(self, weights: FloatArray) -> Scores:
        """Score Σ_k c_k μ(k), over decisions that could have got every arm with a weight.

        Args:
            weights: (K,) c; one arm alone is its value, +1 and −1 are a lift.
        """
        used = np.all(self.eligible[:, weights != 0], axis=-1)
        return self._scored(used, np.broadcast_to(weights, self.eligible.shape), policy=0.0)

    def equal_split(self) -> Scores:
        """Score the mean of μ over the arms that each decision could have got."""
        return self._scored(self._everything, self._equal_shares, policy=0.0)

    def gain_over_equal_split(self) -> Scores:
        """Score R less the mean of μ over the arms that each decision could have got.

        Its sum is what the policy earned more than equal shares would have.
        """
        return self._scored(self._everything, -self._equal_shares, policy=1.0)

    @property
    def _everything(self) -> BoolArray:
        return np.ones(len(self.eligible), dtype=np.bool_)

    @property
    def _equal_shares(self) -> FloatArray:
        return self.eligible / self.eligible.sum(axis=-1, keepdims=True)

    @property
    def means(self) -> FloatArray:
        """The inverse-propensity weighted mean reward of each arm, (..., K)."""
        return self._prediction[0]

    @cached_property
    def _prediction(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return each arm's mean and variance (..., K), and the mean square of a conversion."""
        sums = self.moments.sum(axis=-4)
        weight, total, square = (sums[..., i, 1, :] for i in range(_POWERS))
        sends, earned, squares = (sums[..., i, 0, :] for i in range(_POWERS))
        everyone = sends.sum(axis=-1, keepdims=True)
        pooled_mean = _ratio(earned.sum(axis=-1, keepdims=True), everyone)
        pooled = _ratio(squares.sum(axis=-1, keepdims=True), everyone) - pooled_mean**2
        mean = np.where(weight > 0, _ratio(total, weight), pooled_mean)
        own = np.maximum(_ratio(square, weight) - mean**2, 0.0)
        conversion = _ratio(squares.sum(axis=-1), self.earning.sum(axis=(-2, -1)))
        events = _ratio(sends * own, conversion[..., None])
        drawn = (events * own + _PRIOR_EVENTS * pooled) / (events + _PRIOR_EVENTS)
        return mean, np.maximum(own, drawn), conversion

    def _scored(self, used: BoolArray, weights: FloatArray, *, policy: float) -> Scores:
        """Score c·μ + policy · R over the strata that are `used` (G,), weights c (G, K)."""
        mean, variance, conversion = self._prediction
        mean, variance = mean[..., None, :], variance[..., None, :]
        moments, c = self.moments[..., used, :, :, :], weights[used]
        sends = moments[..., 0, 0, :]
        n = sends.sum(axis=(-2, -1))
        # A score is e_k + policy (R − m_k) + c_k (R − m_k) / π, where arm k was sent.
        expected = (c * mean).sum(axis=-1, keepdims=True) + policy * mean
        noise = policy * _around(moments, mean, 0) + c * _around(moments, mean, 1)
        total = (expected * sends + noise).sum(axis=(-2, -1))
        observed = _squares(moments, mean, c, policy) + 2 * expected * noise
        modelled = variance * _exposure(moments, c, policy)
        within = np.maximum(observed.sum(axis=(-2, -1)), modelled.sum(axis=(-2, -1)))
        between = (expected**2 * sends).sum(axis=(-2, -1)) - _ratio(total**2, n)
        spread = (c**2).sum(axis=-1) * self.eligible[used].sum(axis=-1)
        spread = _ratio((spread * sends.sum(axis=-1)).sum(axis=-1), n)
        compared = self.eligible[used].any(axis=0) & ((c != 0).any(axis=0) | (policy != 0))
        return Scores(
            n,
            total,
            np.maximum(within + between, 0.0),
            _TIGHTEST * spread * conversion,
            self.earning[..., used, :].sum(axis=-2)[..., compared].sum(axis=-1),
            sends.sum(axis=-2)[..., compared].min(axis=-1, initial=np.inf),
        )

    def dump(self) -> bytes:
        """Serialise."""
        shape = self.earning.shape
        arrays = (self.eligible, self.moments, self.earning)
        return msgspec.msgpack.encode((shape, *(a.astype(_LITTLE).tobytes() for a in arrays)))

    @classmethod
    def load(cls, packed: bytes) -> "Evidence":
        """Read back what `dump` wrote."""
        shape, *arrays = msgspec.msgpack.decode(packed)
        eligible, moments, earning = (np.frombuffer(a, _LITTLE).astype(np.float64) for a in arrays)
        *lead, n_sets, n_arms = shape
        return cls(
            eligible.astype(np.bool_).reshape(n_sets, n_arms),
            moments.reshape(*lead, n_sets, _POWERS, _POWERS, n_arms),
            earning.reshape(shape),
        )

    @property
    def n_arms(self) -> int:
        """K."""
        return self.eligible.shape[-1]

    @property
    def sends(self) -> FloatArray:
        """Decisions of each arm, (..., K)."""
        return self.moments[..., 0, 0, :].sum(axis=-2)

    @property
    def earned(self) -> FloatArray:
        """Σ R of each arm, (..., K)."""
        return self.moments[..., 1, 0, :].sum(axis=-2)

    @property
    def effective_sizes(self) -> FloatArray:
        """How many decisions at equal probabilities would tell as much of each arm, (..., K)."""
        sums = self.moments[..., 0, :, :].sum(axis=-3)
        return _ratio(sums[..., 1, :] ** 2, sums[..., 2, :])


def _around(moments: FloatArray, mean: FloatArray, power: int) -> FloatArray:
    """Return Σ (R − m) π^(−power) by stratum and arm, (..., G, K)."""
    return moments[..., 1, power, :] - mean * moments[..., 0, power, :]


def _squares(moments: FloatArray, mean: FloatArray, c: FloatArray, policy: float) -> FloatArray:
    """Return Σ ((policy + c / π) (R − m))² by stratum and arm, (..., G, K)."""
    zeroth, first, second = (
        moments[..., 2, j, :] - 2 * mean * moments[..., 1, j, :] + mean**2 * moments[..., 0, j, :]
        for j in range(_POWERS)
    )
    return policy**2 * zeroth + 2 * policy * c * first + c**2 * second


def _exposure(moments: FloatArray, c: FloatArray, policy: float) -> FloatArray:
    """Return Σ (policy + c / π)² by stratum and arm, (..., G, K)."""
    zeroth, first, second = (moments[..., 0, j, :] for j in range(_POWERS))
    return policy**2 * zeroth + 2 * policy * c * first + c**2 * second


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, giving 0 where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)


def _canonical(eligible: BoolArray, moments: FloatArray, earning: FloatArray) -> Evidence:
    """Merge strata that are the same set of arms, drop the empty ones, and put them in order."""
    sets, place = np.unique(eligible, axis=0, return_inverse=True)
    lead = moments.shape[:-4]
    n_sets, n_arms = sets.shape
    joined = np.zeros((*lead, n_sets, _POWERS, _POWERS, n_arms))
    earned = np.zeros((*lead, n_sets, n_arms))
    for source, target in enumerate(place.ravel().tolist()):
        joined[..., target, :, :, :] += moments[..., source, :, :, :]
        earned[..., target, :] += earning[..., source, :]
    by_set = np.any(joined[..., 0, 0, :] != 0, axis=-1)
    kept = by_set.any(axis=tuple(range(len(lead))))  # counts are whole: what goes leaves 0
    return Evidence(sets[kept], joined[..., kept, :, :, :], earned[..., kept, :])
