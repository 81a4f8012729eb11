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

Where recipients get one email each, emails of the control group are emails of the control: with
the probability q of being held out, π_control becomes q + (1 − q) π_control, and every other arm's
(1 − q) π. A recipient who returns is held out again, so that would not be what decided.

A variant of a slot is compared with the control's by adding the sums of all pairs of arms that
differ in that slot alone: the lift is then the mean over emails and pairs, weighted by h.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import permutations
from typing import Literal

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference.aipw import Scores
from bandits.inference.aipw_sums import AipwSums, ratio

ALL_PAIRS = 60  # arms up to which all pairs are kept
_SUMS = 8
_ARMS = -1  # the kind of a comparison of two arms
_PRIOR_EVENTS = 50.0  # what the variance over all arms counts for in each arm's
_TIGHTEST = 100.0  # conversions of weight 1 at which the interval is at its tightest
_ORIGINS_AT_ONCE = 64
_LITTLE, _SMALL = "<f8", "<i2"  # how sums and arms are stored, whatever the machine

_Key = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Comparisons of arms that are summed, G of them: each of one side with its opposite.

    A side is an arm beside another one, or a variant of a slot beside the control's variant: all
    arms that show it, each beside the one that differs in that slot alone.

    Attributes:
        n_arms: K.
        keys: (G, 3) what each is: −1, an arm, and the other; or a slot, a variant of it, and 0; or
            a slot, that variant, and 1 for the side of the control's variant.
        first: (P,) arms whose decisions are summed,
        second: (P,) the arm that each is compared with,
        place: (P,) and for which comparison, ascending.
    """

    n_arms: int
    keys: IntArray
    first: IntArray
    second: IntArray
    place: IntArray

    @classmethod
    def none(cls, n_arms: int) -> "Comparisons":
        """Make none."""
        no_arms = np.zeros(0, dtype=np.int64)
        return cls(n_arms, np.zeros((0, 3), dtype=np.int64), no_arms, no_arms, no_arms)

    @classmethod
    def of(cls, n_arms: int, pairs: Mapping[_Key, Sequence[tuple[int, int]]]) -> "Comparisons":
        """Make those of these keys, each over its pairs of arms."""
        arms = np.array([pair for of_key in pairs.values() for pair in of_key], dtype=np.int64)
        first, second = arms.reshape(-1, 2).T
        place = np.repeat(np.arange(len(pairs)), [len(of_key) for of_key in pairs.values()])
        keys = np.array(list(pairs), dtype=np.int64).reshape(-1, 3)
        return cls(n_arms, keys, first, second, place)

    @cached_property
    def places(self) -> dict[_Key, int]:
        """The place of each comparison, by its key."""
        return {(kind, one, other): i for i, (kind, one, other) in enumerate(self.keys.tolist())}

    @cached_property
    def opposite(self) -> IntArray:
        """The place of the other side of each, (G,)."""
        others = (
            (kind, other, one) if kind == _ARMS else (kind, one, 1 - other)
            for kind, one, other in self.keys.tolist()
        )
        return np.array([self.places[key] for key in others], dtype=np.int64)

    @cached_property
    def starts(self) -> IntArray:
        """Where the pairs of each begin, (G,)."""
        return np.searchsorted(self.place, np.arange(len(self.keys)))

    @cached_property
    def sizes(self) -> FloatArray:
        """How many pairs each has, (G,)."""
        return np.bincount(self.place, minlength=len(self.keys)).astype(np.float64)

    def involve(self, arm: int) -> BoolArray:
        """Mark those that compare an arm, (G,)."""
        with_arm = (self.first == arm) | (self.second == arm)
        return np.bincount(self.place[with_arm], minlength=len(self.keys)) > 0

    def arms(self, one: int, others: Sequence[int]) -> IntArray | None:
        """Return the places of an arm beside each of m others, (m,); None where one is not kept."""
        places = [self.places.get((_ARMS, one, other), -1) for other in others]
        return np.array(places, dtype=np.int64) if min(places, default=0) >= 0 else None

    def variant(self, slot: int, variant: int) -> IntArray | None:
        """Return the place of a slot's variant beside the control's, (1,).

        None where all arms that show it lack the other.
        """
        place = self.places.get((slot, variant, 0))
        return None if place is None else np.array([place])


@lru_cache(maxsize=256)
def comparisons_of(
    levels: tuple[tuple[int, ...], ...],
    control: int,
    arms_with: Literal["any", "control", "none"] = "any",
) -> Comparisons:
    """Return the comparisons that results make.

    Args:
        levels: by arm, the variant of each slot.
        control: the arm that all others are compared with.
        arms_with: compare arms with any other, where they are not too many, or with the control
            alone, or variants alone.
    """
    n_arms = len(levels)
    pairs: dict[_Key, list[tuple[int, int]]] = {}
    every = arms_with == "any" and n_arms <= ALL_PAIRS
    for one, other in permutations(range(n_arms), 2) if arms_with != "none" else ():
        if every or control in {one, other}:
            pairs[_ARMS, one, other] = [(one, other)]
    arms = {arm: k for k, arm in enumerate(levels)}
    for k, arm in enumerate(levels):
        for slot, of_control in enumerate(levels[control]):
            beside = arms.get((*arm[:slot], of_control, *arm[slot + 1 :]))
            if beside is not None and beside != k:
                pairs.setdefault((slot, arm[slot], 0), []).append((k, beside))
                pairs.setdefault((slot, arm[slot], 1), []).append((beside, k))
    return Comparisons.of(n_arms, pairs)


@dataclass(frozen=True, slots=True, eq=False)
class OverlapSums:
    """Sums of arms beside other arms, weighted for their comparison; additive.

    Decisions whose probabilities depended on the recipient, or are not kept, are in none.

    Attributes:
        comparisons: of arms, G of them.
        decisions: (...,) how many are summed.
        sums: (..., 8, G) of arms a beside arms b, over decisions of a that could have got both: how
            many converted, Σ w, Σ w R, Σ w², Σ w² R and Σ w² R²; and over all decisions that could
            have got both Σ h and Σ h² / π_a.
    """

    comparisons: Comparisons
    decisions: FloatArray
    sums: FloatArray

    @classmethod
    def zeros(cls, comparisons: Comparisons, lead: tuple[int, ...] = ()) -> "OverlapSums":
        """Make the sums over no decision."""
        sums = np.zeros((*lead, _SUMS, len(comparisons.keys)))
        return cls(comparisons, np.zeros(lead), sums)

    @classmethod
    def from_counts(
        cls, comparisons: Comparisons, shares: FloatArray, moments: FloatArray
    ) -> "OverlapSums":
        """Sum decisions of O origins, of which each has the same probabilities.

        Args:
            comparisons: of arms.
            shares: (..., O, K) those probabilities, 0 for arms that could not be drawn.
            moments: (..., 4, O, K) decisions, those that converted, Σ R and Σ R².
        """
        lead = np.broadcast_shapes(shares.shape[:-2], moments.shape[:-3])
        by_pair = np.zeros((*lead, _SUMS, len(comparisons.first)))
        for start in range(0, shares.shape[-2], _ORIGINS_AT_ONCE):
            part = slice(start, start + _ORIGINS_AT_ONCE)
            by_pair += _weighted(shares[..., part, :], moments[..., part, :], comparisons)
        sums = by_pair
        if len(comparisons.keys) < len(comparisons.first):
            sums = np.add.reduceat(by_pair, comparisons.starts, axis=-1)
        return cls(comparisons, moments[..., 0, :, :].sum(axis=(-2, -1)), sums)

    def __add__(self, other: "OverlapSums") -> "OverlapSums":
        decisions, sums = self.decisions + other.decisions, self.sums + other.sums
        return OverlapSums(self.comparisons, decisions, sums)

    def __sub__(self, other: "OverlapSums") -> "OverlapSums":
        decisions, sums = self.decisions - other.decisions, self.sums - other.sums
        return OverlapSums(self.comparisons, decisions, sums)

    def at(self, place: int) -> "OverlapSums":
        """Return one place of the leading axis."""
        return OverlapSums(self.comparisons, self.decisions[place], self.sums[place])

    def padded(self, comparisons: Comparisons) -> "OverlapSums":
        """Return the same sums of other comparisons, 0 for those that are not kept here.

        One that is kept no more is dropped.
        """
        if comparisons is self.comparisons:
            return self
        if np.array_equal(comparisons.keys, self.comparisons.keys):
            return OverlapSums(comparisons, self.decisions, self.sums)
        sums = np.zeros((*self.sums.shape[:-1], len(comparisons.keys)))
        both = comparisons.places.keys() & self.comparisons.places.keys()
        places = [(comparisons.places[key], self.comparisons.places[key]) for key in both]
        new, old = np.array(places, dtype=np.int64).reshape(-1, 2).T
        sums[..., new] = self.sums[..., old]
        return OverlapSums(comparisons, self.decisions, sums)

    def replaced_by(self, others: "OverlapSums") -> "OverlapSums":
        """Return these sums with those of some of their comparisons replaced by others."""
        sums = self.sums.copy()
        places = [self.comparisons.places[key] for key in others.comparisons.places]
        sums[..., places] = others.sums
        return OverlapSums(self.comparisons, self.decisions, sums)

    @property
    def negated(self) -> "OverlapSums":
        """The same decisions, each reward taken as −R."""
        signs = np.array([1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0])[:, None]
        return OverlapSums(self.comparisons, self.decisions, self.sums * signs)

    def dump(self) -> bytes:
        """Serialise."""
        keys = self.comparisons.keys.astype(_SMALL).tobytes()
        arrays = (a.astype(_LITTLE).tobytes() for a in (self.decisions, self.sums))
        shape = (self.comparisons.n_arms, self.decisions.shape)
        return msgspec.msgpack.encode((*shape, keys, *arrays))

    @classmethod
    def load(cls, packed: bytes) -> "OverlapSums":
        """Read back what `dump` wrote; `padded` is what decisions can be added to."""
        n_arms, lead, keys, *arrays = msgspec.msgpack.decode(packed)
        none = Comparisons.none(n_arms)
        kept = np.frombuffer(keys, _SMALL).astype(np.int64).reshape(-1, 3)
        decisions, sums = (np.frombuffer(a, _LITTLE).astype(np.float64) for a in arrays)
        shape = (*lead, _SUMS, len(kept))
        return cls(replace(none, keys=kept), decisions.reshape(lead), sums.reshape(shape))


def count_by_origin(  # noqa: PLR0913 - one for each column of the log
    origins: IntArray,
    arms: IntArray,
    rewards: FloatArray,
    earned: BoolArray,
    segments: IntArray,
    *,
    shape: tuple[int, int, int],
) -> FloatArray:
    """Count n decisions by segment, origin and arm, (S, 4, O, K), for `OverlapSums.from_counts`.

    Args:
        origins: (n,) which probabilities each was drawn from.
        arms: (n,) what it got.
        rewards: (n,) what it earned, its window closed.
        earned: (n,) true for a conversion.
        segments: (F, n) which segment, by each of F features.
        shape: S, O and K.
    """
    n_segments, n_origins, n_arms = shape
    size = n_segments * n_origins * n_arms
    cells = segments * (n_origins * n_arms) + (origins * n_arms + arms)
    moments = np.zeros((4, size))
    rows, converted = np.flatnonzero(rewards), np.flatnonzero(earned)
    for of_feature in cells:
        moments[0] += np.bincount(of_feature, minlength=size)
        moments[1] += np.bincount(of_feature[converted], minlength=size)
        moments[2] += np.bincount(of_feature[rows], rewards[rows], size)
        moments[3] += np.bincount(of_feature[rows], rewards[rows] ** 2, size)
    return moments.reshape(4, *shape).swapaxes(0, 1)


def compare(
    sums: OverlapSums,
    places: IntArray,
    evidence: AipwSums,
    *,
    worth: FloatArray,
    design_effect: FloatArray | float = 1.0,
) -> Scores:
    """Score how much more one side of comparisons earns than the other.

    Args:
        sums: of all comparisons, (..., 8, G).
        places: (C,) of those that are asked for.
        evidence: (...,) sums by arm of the same decisions, for the variance over all arms and the
            size of a conversion.
        worth: (..., K) conversions of equal size that one of an arm is worth, at most 1.
        design_effect: (..., C) by how much the variance is larger than that of as many independent
            emails.

    Returns:
        Scores (..., C): `n` is Σ h, `conversions` those of whichever side has fewer, and
        `fewest_sends` how many decisions of equal weight its decisions are worth, likewise. Where
        hardly anybody converts, and that is good, a side counts for as many as its decisions would
        have had by the rate of all arms.
    """
    comparisons = sums.comparisons
    effect = np.asarray(design_effect, dtype=np.float64)
    pooled, conversion, rate = (a[..., None] for a in _pooled(evidence))
    of_pairs = worth[..., comparisons.first]
    of_arms = np.add.reduceat(of_pairs, comparisons.starts, axis=-1) / comparisons.sizes
    sides, converted = [], []
    for at in (places, comparisons.opposite[places]):
        side = _Side.of(sums.sums[..., at], pooled, conversion, effect)
        sides.append(side)
        converted.append(
            np.maximum(sums.sums[..., 0, at], side.decisions * rate) * of_arms[..., at]
        )
    n = sums.sums[..., 6, places]
    one, other = sides
    variation = np.maximum(one.observed + other.observed, one.modelled + other.modelled)
    return Scores(
        n,
        n * (one.mean - other.mean),
        variation * effect,
        np.broadcast_to(_TIGHTEST * conversion * effect**2, n.shape),
        np.minimum(*converted) / effect,
        np.minimum(one.decisions, other.decisions),
    )


def conversion_worth(evidence: AipwSums, costs: FloatArray | float = 0.0) -> FloatArray:
    """Return how many conversions of equal value one of an arm is worth, (..., K), at most 1.

    It is (Σ r)² / Σ r² over how many there are: where a few are worth most of it, their mean is as
    uncertain as that of a few. Of an arm without any, it is that of all arms.

    Args:
        evidence: (...,) sums by arm; no value is below 0.
        costs: (K,) part of every reward of an arm, whatever its recipients do.
    """
    n, total, square = (evidence.moments[..., i, 0, :].sum(axis=-2) for i in range(3))
    values = total - costs * n
    squares = square - 2 * costs * total + costs**2 * n
    converted = evidence.earning.sum(axis=-2)
    of_all = (a.sum(axis=-1, keepdims=True) for a in (values, squares, converted))
    whole, whole_squares, whole_converted = of_all
    everyone = ratio(whole**2, whole_squares * whole_converted)
    worth = np.where(converted > 0, ratio(values**2, squares * converted), everyone)
    return np.minimum(worth, 1.0)


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


def _weighted(shares: FloatArray, moments: FloatArray, comparisons: Comparisons) -> FloatArray:
    """Sum decisions of origins, (..., 8, P); the arguments are those of `from_counts`."""
    own, of_other = shares[..., comparisons.first], shares[..., comparisons.second]
    both = (own > 0) & (of_other > 0)
    weights = np.where(both, of_other / np.where(both, own + of_other, 1.0), 0.0)
    squared = weights**2
    n, converted, total, square = (moments[..., i, :, :][..., comparisons.first] for i in range(4))
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
