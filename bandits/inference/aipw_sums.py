"""AIPW sums: sums over decisions for estimates of arms, which folds add to and subtract from.

`bandits.inference.aipw` turns them into estimates, and says why it needs these sums.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray

POWERS = 3  # of rewards and of inverse propensities: 0, 1, 2
_PRIOR_EVENTS = 50.0  # what the variance over all arms counts for in each arm's
_LITTLE = "<f8"  # how arrays are stored, whatever the machine


@dataclass(frozen=True, eq=False)
class AipwSums:
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
    def zeros(cls, n_arms: int, lead: tuple[int, ...] = ()) -> "AipwSums":
        """Make the sums over no decision."""
        return cls(
            np.zeros((0, n_arms), dtype=np.bool_),
            np.zeros((*lead, 0, POWERS, POWERS, n_arms)),
            np.zeros((*lead, 0, n_arms)),
        )

    @classmethod
    def from_decisions(  # noqa: PLR0913 - one for each column of the log
        cls,
        eligible: BoolArray,
        strata: IntArray,
        arms: IntArray,
        rewards: FloatArray,
        propensities: FloatArray,
        *,
        earned: BoolArray | None = None,
    ) -> "AipwSums":
        """Sum n decisions.

        Args:
            eligible: (G, K) sets of arms.
            strata: (n,) which of those sets each decision could choose from.
            arms: (n,) what it got.
            rewards: (n,) what it earned, its window closed.
            propensities: (n,) the logged probability of what it got.
            earned: (n,) true for a conversion; unless given, any reward but 0 is one.

        Raises:
            ValueError: a propensity is not in (0, 1].
        """
        one_segment = np.zeros((1, len(arms)), dtype=np.int64)
        sums = cls.by_segment(
            eligible,
            strata,
            arms,
            rewards,
            propensities,
            segments=one_segment,
            n_segments=1,
            earned=earned,
        )
        return cls(sums.eligible, sums.moments[0], sums.earning[0])

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
    ) -> "AipwSums":
        """Sum n decisions in each segment that they belong to; the segments are the leading axis.

        Args:
            eligible: as are the next four, of `from_decisions`.
            strata: (n,).
            arms: (n,).
            rewards: (n,).
            propensities: (n,).
            segments: (F, n) which segment, by each of F features.
            n_segments: how many there are.
            earned: (n,), of `from_decisions`.

        Raises:
            ValueError: a propensity is not in (0, 1].
        """
        if not np.all((propensities > 0) & (propensities <= 1)):
            raise ValueError("propensities must lie in (0, 1]")
        n_sets, n_arms = eligible.shape
        size = n_sets * n_arms
        cells = segments * size + (strata * n_arms + arms)

        def total(cells: IntArray, values: FloatArray) -> FloatArray:
            sums = np.zeros(n_segments * size)
            for cells_of_feature in cells:
                sums += np.bincount(cells_of_feature, values, n_segments * size)
            return sums.reshape(n_segments, n_sets, n_arms)

        weights = 1 / propensities
        rewarded = np.flatnonzero(rewards)  # the others add 0 to Σ R and Σ R²
        columns = cells, rewards, weights
        rewarded_columns = cells[:, rewarded], rewards[rewarded], weights[rewarded]
        powers = [
            total(of_cells, r**i * w**j)
            for i, (of_cells, r, w) in enumerate((columns, rewarded_columns, rewarded_columns))
            for j in range(POWERS)
        ]
        shape = (n_segments, n_sets, POWERS, POWERS, n_arms)
        converted = np.flatnonzero(rewards if earned is None else earned)
        return _canonical(
            eligible,
            np.stack(powers, axis=2).reshape(shape),
            total(cells[:, converted], np.ones(len(converted))),
        )

    def __add__(self, other: "AipwSums") -> "AipwSums":
        return self._joined(other, 1.0)

    def __sub__(self, other: "AipwSums") -> "AipwSums":
        return self._joined(other, -1.0)

    def _joined(self, other: "AipwSums", sign: float) -> "AipwSums":
        if not len(other.eligible):
            return self
        if not len(self.eligible) and sign > 0:
            return other
        if np.array_equal(self.eligible, other.eligible):  # nearly always: both are in order
            moments = self.moments + sign * other.moments
            earning = self.earning + sign * other.earning
            return AipwSums(self.eligible, moments, earning).without_empty()
        return _canonical(
            np.concatenate([self.eligible, other.eligible]),
            np.concatenate([self.moments, sign * other.moments], axis=-4),
            np.concatenate([self.earning, sign * other.earning], axis=-2),
        )

    def without_empty(self) -> "AipwSums":
        """Drop strata without a decision: counts are whole, so what goes leaves 0."""
        lead = tuple(range(self.earning.ndim - 2))
        kept = np.any(self.moments[..., 0, 0, :] != 0, axis=(*lead, -1))
        if kept.all():
            return self
        moments, earning = self.moments[..., kept, :, :, :], self.earning[..., kept, :]
        return AipwSums(self.eligible[kept], moments, earning)

    def spread(self, eligible: BoolArray) -> "AipwSums":
        """Give every stratum of `eligible` (G, K) its place, which must include all there are."""
        places = {row.tobytes(): i for i, row in enumerate(eligible)}
        taken = [places[row.tobytes()] for row in self.eligible]
        *lead, _, n_arms = self.earning.shape
        moments = np.zeros((*lead, len(eligible), POWERS, POWERS, n_arms))
        earning = np.zeros((*lead, len(eligible), n_arms))
        moments[..., taken, :, :, :], earning[..., taken, :] = self.moments, self.earning
        return AipwSums(eligible, moments, earning)

    def padded(self, n_arms: int) -> "AipwSums":
        """Append arms that no decision could get, until there are `n_arms`."""
        missing = n_arms - self.eligible.shape[-1]
        if not missing:
            return self

        def pad(array: Any) -> Any:
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])

        return AipwSums(pad(self.eligible), pad(self.moments), pad(self.earning))

    @property
    def negated(self) -> "AipwSums":
        """The same decisions, each reward taken as −R: where less is better, more is."""
        signs = np.array([1.0, -1.0, 1.0])[:, None, None]
        return AipwSums(self.eligible, self.moments * signs, self.earning)

    @property
    def means(self) -> FloatArray:
        """The inverse-propensity weighted mean reward of each arm, (..., K)."""
        return self.prediction[0]

    @cached_property
    def prediction(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Each arm's mean and variance (..., K), and the mean square of a conversion."""
        sums = self.moments.sum(axis=-4)
        weight, total, square = (sums[..., i, 1, :] for i in range(POWERS))
        sends, earned, squares = (sums[..., i, 0, :] for i in range(POWERS))
        everyone = sends.sum(axis=-1, keepdims=True)
        pooled_mean = ratio(earned.sum(axis=-1, keepdims=True), everyone)
        pooled = ratio(squares.sum(axis=-1, keepdims=True), everyone) - pooled_mean**2
        mean = np.where(weight > 0, ratio(total, weight), pooled_mean)
        own = np.maximum(ratio(square, weight) - mean**2, 0.0)
        conversion = ratio(squares.sum(axis=-1), self.earning.sum(axis=(-2, -1)))
        events = ratio(sends * own, conversion[..., None])
        drawn = (events * own + _PRIOR_EVENTS * pooled) / (events + _PRIOR_EVENTS)
        return mean, np.maximum(own, drawn), conversion

    def dump(self) -> bytes:
        """Serialise."""
        arrays = [a.astype(_LITTLE).tobytes() for a in (self.eligible, self.moments, self.earning)]
        return msgspec.msgpack.encode((self.earning.shape, *arrays))

    @classmethod
    def load(cls, packed: bytes) -> "AipwSums":
        """Read back what `dump` wrote."""
        shape, *arrays = msgspec.msgpack.decode(packed)
        eligible, moments, earning = [np.frombuffer(a, _LITTLE).astype(np.float64) for a in arrays]
        *lead, n_sets, n_arms = shape
        return cls(
            eligible.astype(np.bool_).reshape(n_sets, n_arms),
            moments.reshape(*lead, n_sets, POWERS, POWERS, n_arms),
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
        """Number of decisions at equal probabilities that are worth as much, by arm, (..., K)."""
        sums = self.moments[..., 0, :, :].sum(axis=-3)
        return ratio(sums[..., 1, :] ** 2, sums[..., 2, :])


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, giving 0 where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)


def _canonical(eligible: BoolArray, moments: FloatArray, earning: FloatArray) -> AipwSums:
    """Merge strata that are the same set of arms, drop the empty ones, and put them in order."""
    if len(eligible) == 1:
        return AipwSums(eligible, moments, earning).without_empty()
    sets, place = np.unique(eligible, axis=0, return_inverse=True)
    lead = moments.shape[:-4]
    n_sets, n_arms = sets.shape
    joined = np.zeros((*lead, n_sets, POWERS, POWERS, n_arms))
    earned = np.zeros((*lead, n_sets, n_arms))
    for source, target in enumerate(place.ravel().tolist()):
        joined[..., target, :, :, :] += moments[..., source, :, :, :]
        earned[..., target, :] += earning[..., source, :]
    return AipwSums(sets, joined, earned).without_empty()
