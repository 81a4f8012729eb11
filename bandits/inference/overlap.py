"""Overlap weights: pairs of arms compared over the emails where both were really tried.

Under a policy that uses no context every decision of one snapshot and set of arms is drawn from the
same probabilities π, so a pair (a, b) may be weighted by h = π_a π_b / (π_a + π_b), which the past
decides (Li, Morgan and Zaslavsky, 2018, "Balancing covariates via propensity score weighting"). The
lift is then the mean of μ_a − μ_b over emails weighted by h, rather than over all: emails that one
of both hardly ever got say nothing and cost no width. A decision that got a weighs
w = h / π_a = π_b / (π_a + π_b), at most 1, where an inverse propensity has no such bound.

**The estimate** is the difference of both arms' weighted means, Σ w R / Σ w (Hájek, 1971): that is
the score of `aipw` with the prediction set, when sums are read, to that mean, so that the noise
around it sums to 0. **The variance** of Σ w (R − m) is the larger of the observed, Σ w² (R − m)²,
and the modelled, v Σ h² / π over all decisions, v the variance of a reward, drawn towards that over
all arms and never below the arm's own. Either alone errs where an arm with bad luck is sent less.
**The interval** is that of `aipw`, over Σ h instead of n.

Emails of the control group are emails of the control: with the probability q of being held out,
π_control becomes q + (1 − q) π_control, and every other arm's (1 − q) π.

Several pairs, those of a slot's variant and the control's beside each combination of the other
slots say, are compared by adding their sums: the lift is then the mean over emails and pairs,
weighted by h.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference.aipw import Scores
from bandits.inference.aipw_sums import AipwSums, ratio

ALL_PAIRS = 60  # arms up to which all pairs are kept
_SUMS = 8
_PRIOR_EVENTS = 50.0  # what the variance over all arms counts for in each arm's
_TIGHTEST = 100.0  # conversions of weight 1 at which the interval is at its tightest
_ORIGINS_AT_ONCE = 64
_LITTLE, _SMALL = "<f8", "<u2"  # how sums and arms are stored, whatever the machine


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs of arms that are compared, P of them: with each its opposite.

    Attributes:
        n_arms: K.
        first: (P,) the arm whose decisions are summed.
        second: (P,) the arm that it is compared with.
    """

    n_arms: int
    first: IntArray
    second: IntArray

    @classmethod
    def where(cls, kept: BoolArray) -> "Pairs":
        """Make the pairs that a symmetric matrix (K, K) is true for."""
        return cls(len(kept), *np.nonzero(kept))

    @classmethod
    def none(cls, n_arms: int) -> "Pairs":
        """Make no pairs."""
        return cls.where(np.zeros((n_arms, n_arms), dtype=np.bool_))

    @cached_property
    def places(self) -> IntArray:
        """The place of each pair, (K, K), −1 where it is not kept."""
        places = np.full((self.n_arms, self.n_arms), -1)
        places[self.first, self.second] = np.arange(len(self.first))
        return places

    @cached_property
    def opposite(self) -> IntArray:
        """The place of each opposite pair, (P,)."""
        return self.places[self.second, self.first]

    def keeps(self, one: IntArray, other: IntArray) -> bool:
        """Return true where all these pairs are kept; arms of the same shape, −1 for none."""
        return bool(((self.places[one, other] >= 0) | (one < 0)).all())


@lru_cache(maxsize=64)
def pairs_of(levels: tuple[tuple[int, ...], ...], control: int, most: int = ALL_PAIRS) -> Pairs:
    """Return the pairs of arms that are compared.

    Args:
        levels: by arm, the variant of each slot.
        control: the arm that all others are compared with.
        most: arms up to which all pairs are kept. Of more, those with the control, and those whose
            arms differ in one slot, where one has the control's variant.
    """
    n_arms = len(levels)
    if n_arms <= most:
        return Pairs.where(~np.eye(n_arms, dtype=np.bool_))
    table = np.array(levels)
    differ = table[:, None, :] != table[None, :, :]
    of_control = table == table[control]
    kept = (differ.sum(axis=-1) == 1) & (differ & of_control[:, None, :]).any(axis=-1)
    kept[control] = np.arange(n_arms) != control
    return Pairs.where(kept | kept.T)


@dataclass(frozen=True, slots=True, eq=False)
class OverlapSums:
    """Sums of arms beside other arms, weighted for their comparison; additive.

    Decisions whose probabilities depended on the recipient, or are not kept, are in none.

    Attributes:
        pairs: of arms, P of them.
        decisions: (...,) how many are summed.
        sums: (..., 8, P) of the pair (a, b), over decisions of a that could have got both: how many
            converted, Σ w, Σ w R, Σ w², Σ w² R and Σ w² R²; and over all decisions that could have
            got both Σ h and Σ h² / π_a.
    """

    pairs: Pairs
    decisions: FloatArray
    sums: FloatArray

    @classmethod
    def zeros(cls, pairs: Pairs, lead: tuple[int, ...] = ()) -> "OverlapSums":
        """Make the sums over no decision."""
        return cls(pairs, np.zeros(lead), np.zeros((*lead, _SUMS, len(pairs.first))))

    @classmethod
    def from_counts(cls, pairs: Pairs, shares: FloatArray, moments: FloatArray) -> "OverlapSums":
        """Sum decisions of G origins, of which each has the same probabilities.

        Args:
            pairs: of arms.
            shares: (..., G, K) those probabilities, 0 for arms that could not be drawn.
            moments: (..., 4, G, K) decisions, those that converted, Σ R and Σ R².
        """
        lead = np.broadcast_shapes(shares.shape[:-2], moments.shape[:-3])
        sums = np.zeros((*lead, _SUMS, len(pairs.first)))
        for start in range(0, shares.shape[-2], _ORIGINS_AT_ONCE):
            part = slice(start, start + _ORIGINS_AT_ONCE)
            sums += _weighted(shares[..., part, :], moments[..., part, :], pairs)
        return cls(pairs, moments[..., 0, :, :].sum(axis=(-2, -1)), sums)

    @classmethod
    def by_segment(  # noqa: PLR0913 - one for each column of the log
        cls,
        pairs: Pairs,
        shares: FloatArray,
        origins: IntArray,
        arms: IntArray,
        rewards: FloatArray,
        *,
        earned: BoolArray,
        segments: IntArray,
        n_segments: int,
    ) -> "OverlapSums":
        """Sum n decisions in each segment that they belong to.

        Args:
            pairs: of arms.
            shares: (G, K) probabilities of each origin, 0 for arms that could not be drawn.
            origins: (n,) which of them each decision was drawn from.
            arms: (n,) what it got.
            rewards: (n,) what it earned, its window closed.
            earned: (n,) true for a conversion.
            segments: (F, n) which segment, by each of F features.
            n_segments: how many there are, the leading axis.
        """
        n_origins, n_arms = shares.shape
        size = n_segments * n_origins * n_arms
        cells = segments * (n_origins * n_arms) + (origins * n_arms + arms)
        moments = np.zeros((4, size))
        rows, converted = np.flatnonzero(rewards), np.flatnonzero(earned)
        for of_feature in cells:
            moments[0] += np.bincount(of_feature, minlength=size)
            moments[1] += np.bincount(of_feature[converted], minlength=size)
            moments[2] += np.bincount(of_feature[rows], rewards[rows], size)
            moments[3] += np.bincount(of_feature[rows], rewards[rows] ** 2, size)
        by_origin = moments.reshape(4, n_segments, n_origins, n_arms).swapaxes(0, 1)
        return cls.from_counts(pairs, shares, by_origin)

    def __add__(self, other: "OverlapSums") -> "OverlapSums":
        return OverlapSums(self.pairs, self.decisions + other.decisions, self.sums + other.sums)

    def __sub__(self, other: "OverlapSums") -> "OverlapSums":
        return OverlapSums(self.pairs, self.decisions - other.decisions, self.sums - other.sums)

    def at(self, place: int) -> "OverlapSums":
        """Return one place of the leading axis."""
        return OverlapSums(self.pairs, self.decisions[place], self.sums[place])

    def padded(self, pairs: Pairs) -> "OverlapSums":
        """Return the same sums of other pairs, 0 for those that are not kept here.

        A pair that is kept no more is dropped.
        """
        if pairs is self.pairs:
            return self
        places = np.full((pairs.n_arms, pairs.n_arms), -1)
        places[: self.pairs.n_arms, : self.pairs.n_arms] = self.pairs.places
        taken = places[pairs.first, pairs.second]
        sums = np.zeros((*self.sums.shape[:-1], len(taken)))
        sums[..., taken >= 0] = self.sums[..., taken[taken >= 0]]
        return OverlapSums(pairs, self.decisions, sums)

    @property
    def negated(self) -> "OverlapSums":
        """The same decisions, each reward taken as −R."""
        signs = np.array([1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0])[:, None]
        return OverlapSums(self.pairs, self.decisions, self.sums * signs)

    def dump(self) -> bytes:
        """Serialise."""
        pairs = (a.astype(_SMALL).tobytes() for a in (self.pairs.first, self.pairs.second))
        arrays = (a.astype(_LITTLE).tobytes() for a in (self.decisions, self.sums))
        shape = (self.pairs.n_arms, self.decisions.shape)
        return msgspec.msgpack.encode((*shape, *pairs, *arrays))

    @classmethod
    def load(cls, packed: bytes) -> "OverlapSums":
        """Read back what `dump` wrote."""
        n_arms, lead, first, second, *arrays = msgspec.msgpack.decode(packed)
        ends = (np.frombuffer(end, _SMALL).astype(np.int64) for end in (first, second))
        pairs = Pairs(n_arms, *ends)
        decisions, sums = (np.frombuffer(a, _LITTLE).astype(np.float64) for a in arrays)
        shape = (*lead, _SUMS, len(pairs.first))
        return cls(pairs, decisions.reshape(lead), sums.reshape(shape))


def compare(  # noqa: PLR0913 - sums of two kinds, and what they leave open
    sums: OverlapSums,
    one: IntArray,
    other: IntArray,
    evidence: AipwSums,
    *,
    worth: FloatArray,
    design_effect: FloatArray | float = 1.0,
) -> Scores:
    """Score how much more arms `one` earn than arms `other`: C comparisons, of m pairs each.

    Args:
        sums: of pairs that are kept, (..., 8, P).
        one: (C, m) arms; −1 where a comparison has fewer than m pairs.
        other: (C, m) the arm that each is compared with.
        evidence: (...,) sums by arm of the same decisions, for the variance over all arms and the
            size of a conversion.
        worth: (K,) conversions of equal size that one of an arm is worth, at most 1.
        design_effect: (C,) by how much the variance is larger than that of as many independent
            emails.

    Returns:
        Scores (..., C): `n` is Σ h, `conversions` those of whichever side has fewer, and
        `fewest_sends` how many decisions of equal weight its decisions are worth, likewise. Where
        hardly anybody converts, and that is good, a side counts for as many as its decisions would
        have had by the rate of all arms.
    """
    pairs = sums.pairs
    used = one >= 0
    places = np.where(used, pairs.places[one, other], 0)
    opposite = pairs.opposite[places]
    effect = np.asarray(design_effect, dtype=np.float64)
    pooled, conversion, rate = (a[..., None] for a in _pooled(evidence))
    sides = [(sums.sums[..., p] * used).sum(axis=-1) for p in (places, opposite)]
    arms = [_Side.of(side, pooled, conversion, effect) for side in sides]
    converted = [
        np.maximum(
            (sums.sums[..., 0, p] * used * worth[pairs.first[p]]).sum(axis=-1),
            side.decisions * rate * (worth[pairs.first[p]] * used).max(axis=-1),
        )
        for p, side in zip((places, opposite), arms, strict=True)
    ]
    n = sides[0][..., 6, :]
    variation = np.maximum(arms[0].observed + arms[1].observed, arms[0].modelled + arms[1].modelled)
    return Scores(
        n,
        n * (arms[0].mean - arms[1].mean),
        variation * effect,
        np.broadcast_to(_TIGHTEST * conversion * effect**2, n.shape),
        np.minimum(*converted) / effect,
        np.minimum(arms[0].decisions, arms[1].decisions),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of C comparisons, (..., C) each.

    Attributes:
        mean: weighted.
        decisions: of equal weight that this side's are worth.
        observed: its part of the variation, as it was observed.
        modelled: and as it is modelled.
    """

    mean: FloatArray
    decisions: FloatArray
    observed: FloatArray
    modelled: FloatArray

    @classmethod
    def of(
        cls, sums: FloatArray, pooled: FloatArray, conversion: FloatArray, effect: FloatArray
    ) -> "_Side":
        """Read the sums (..., 8, C) of one side.

        Args:
            sums: of `OverlapSums`.
            pooled: the variance of a reward over all arms.
            conversion: the mean square of a conversion.
            effect: of the design.
        """
        _, weight, total, exposure, first, second, _, expected = np.moveaxis(sums, -2, 0)
        mean = ratio(total, weight)
        own = np.maximum(ratio(second, exposure) - ratio(first, exposure) ** 2, 0.0)
        decisions = ratio(weight**2, exposure)
        events = ratio(decisions * own, conversion * effect)
        drawn = (events * own + _PRIOR_EVENTS * pooled) / (events + _PRIOR_EVENTS)
        observed = np.maximum(second - 2 * mean * first + mean**2 * exposure, 0.0)
        return cls(mean, decisions, observed, np.maximum(own, drawn) * expected)


def _pooled(evidence: AipwSums) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return, over all arms, a reward's variance, the mean square of a conversion, and its rate."""
    n, total, square = (evidence.moments[..., i, 0, :].sum(axis=(-2, -1)) for i in range(3))
    variance = ratio(square, n) - ratio(total, n) ** 2
    converted = evidence.earning.sum(axis=(-2, -1))
    return np.maximum(variance, 0.0), ratio(square, converted), ratio(converted, n)


def _weighted(shares: FloatArray, moments: FloatArray, pairs: Pairs) -> FloatArray:
    """Sum decisions of origins, (..., 8, P); the arguments are those of `from_counts`."""
    own, of_other = shares[..., pairs.first], shares[..., pairs.second]
    both = (own > 0) & (of_other > 0)
    weights = np.where(both, of_other / np.where(both, own + of_other, 1.0), 0.0)
    squared = weights**2
    n, converted, total, square = (moments[..., i, :, :][..., pairs.first] for i in range(4))
    everyone = moments[..., 0, :, :].sum(axis=-1)[..., None] * own
    terms = (
        converted * both,
        n * weights,
        total * weights,
        n * squared,
        total * squared,
        square * squared,
        everyone * weights,
        everyone * squared,
    )
    return np.stack([term.sum(axis=-2) for term in terms], axis=-2)
