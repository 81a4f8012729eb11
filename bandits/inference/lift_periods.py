"""Lift sums by period against the control, and the test of lifts: comparisons that move in time.

A weekday that all arms share moves no comparison, and must not look as if it did: Saturday's clicks
may be a third of Friday's, and so then is every difference between two arms. A lift by period d_t,
with f_t the factor by which all arms together were above or below their means, is tested as
d_t = f_t (δ + β t) twice: with f_t as it was seen (a day multiplies what each arm earns), and with
f_t = 1 (it adds the same to each). Lifts have moved where β ≠ 0 in both.

Arm and control are compared over the emails where both were really tried: with weights
h = π_k π_c / (π_k + π_c), which the past decides (overlap weights; Li, Morgan and Zaslavsky, 2018,
"Balancing covariates via propensity score weighting"), a decision weighs h / π, at most 1. Where
shares depend on the recipient, the probabilities of arms that were not drawn are not kept, and a
decision weighs 1 / π instead: that is the mean over all recipients, more widely.

Data of a period do not change once its windows have closed, so the test is made of whole weeks from
the start, 1, 2, 4, 8, 16 and 32 of them, and never else; each has a part of the false-alarm rate.
More looks would cost power, and change nothing at the next of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from bandits.array_types import BoolArray, FloatArray, IntArray, distinct_places
from bandits.inference.aipw_sums import ratio
from bandits.inference.periods import (
    FEWEST_EVENTS,
    ArmMoments,
    ByPeriod,
    PeriodSums,
    arm_moments,
    is_daily,
    midpoints,
    number_after,
    trend,
)

LEVEL = 0.01  # the chance of ever finding steady lifts to move, at most
_WEEK = 7
_PARTS = {1: 0.05, 2: 0.15, 4: 0.5, 8: 0.2, 16: 0.06, 32: 0.04}  # of `LEVEL`, by weeks
_FEWEST_PERIODS = 2
_FEWEST_WEIGHTED = 50.0  # decisions at equal weights that an arm's are worth, at least
_LEAST_FACTOR = 0.05  # below this a period's common factor is not believed
_TINY = 1e-300  # stands for 0 where one divides, and the quotient is not used


class LiftPeriodSums(ByPeriod):
    """Sums of each arm and of the control beside it, weighted for their comparison, by period.

    `sums` is (P, 7, K): decisions of the arm, then Σ w, Σ w R and Σ w² over its own decisions, and
    the same over the control's. Decisions that could not have got both are in neither.
    """

    __slots__ = ()

    N_SUMS = 7

    @classmethod
    def from_decisions(  # noqa: PLR0913 - one for each column of the log
        cls,
        numbers: IntArray,
        strata: IntArray,
        arms: IntArray,
        rewards: FloatArray,
        *,
        scales: FloatArray,
        shares: FloatArray,
        control: int,
    ) -> "LiftPeriodSums":
        """Sum n decisions.

        Args:
            numbers: (n,) the period of each.
            strata: (n,) which row of `shares` it was drawn from.
            arms: (n,) what it got.
            rewards: (n,) what it earned, its window closed.
            scales: (n,) 1, or 1 / π where shares depend on the recipient.
            shares: (G, K) probabilities, 0 for arms that could not be drawn; where they depend on
                the recipient, 1 for those that could.
            control: the arm to compare with.
        """
        periods, place = distinct_places(numbers)
        n_sets, n_arms = shares.shape
        own, of_control = _overlap(shares, control)
        weights = own[strata, arms] * scales
        cells = place * n_arms + arms
        counted = ((weights > 0) | (arms == control)).astype(np.float64)
        size = len(periods) * n_arms
        by_arm = [
            np.bincount(cells, w, size).reshape(len(periods), n_arms)
            for w in (counted, weights, weights * rewards, weights**2)
        ]
        rows = np.flatnonzero(arms == control)
        cells, size = place[rows] * n_sets + strata[rows], len(periods) * n_sets
        s, r = scales[rows], rewards[rows]
        of_sets = [np.bincount(cells, w, size).reshape(-1, n_sets) for w in (s, s * r, s**2)]
        powers = (of_control, of_control, of_control**2)
        by_control = [a @ w for a, w in zip(of_sets, powers, strict=True)]
        return cls(periods, np.stack([*by_arm, *by_control], axis=1).astype(np.float64))

    def weights(self, arms: IntArray) -> FloatArray:
        """Sum by period, (P,), the weights of emails of these arms beside the control."""
        weights: FloatArray = self.sums[:, 1, arms].sum(axis=-1)
        return weights

    def p_value(self, rates: ByPeriod, control: int, conversion: float) -> tuple[float, int]:
        """Return the p-value of "no lift moved", and over how many whole weeks it was tested.

        Args:
            rates: decisions, Σ r and Σ r² of all decisions.
            control: the arm to compare with.
            conversion: the mean square of a conversion.
        """
        if not len(self.numbers):
            return 1.0, 0
        numbers = np.union1d(rates.numbers, self.numbers)
        by_period = rates.spread(numbers)
        p_value = lifts_p_value(
            numbers,
            by_period[:, 0],
            by_period[:, 1],
            by_period[:, 2],
            self.spread(numbers),
            control=control,
            conversion=conversion,
        )
        return float(p_value), max((look.weeks for look in _looks(numbers)), default=0)

    def levels(self, rates: PeriodSums, control: int) -> PeriodSums:
        """Return levels of arms among all recipients, in `rates` as those who got them answered.

        A policy that decides by recipient learns whom to send an arm, so that arm's plain mean
        moves while no rate does.
        """
        square, total = rates.sums[:, 2].sum(axis=0), rates.sums[:, 1].sum(axis=0)
        columns = weighted_levels(self.sums, ratio(square, total), control)
        return PeriodSums(self.numbers, np.stack(columns, axis=1))


def weighted_levels(
    sums: FloatArray, sizes: FloatArray, control: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return decisions, Σ r and Σ r² (..., P, K) that are worth as much as weighted ones.

    Args:
        sums: (..., P, 7, K) of `LiftPeriodSums`.
        sizes: (..., K) Σ r² / Σ r of each arm; 1 where rewards are 0 or 1.
        control: the arm to compare with; its sums are those beside the arm that most go with.
    """
    levels = sums[..., 1:4, :].copy()
    beside = sums[..., 4:7, :]
    most = beside[..., 0, :].sum(axis=-2).argmax(axis=-1)[..., None, None, None]
    levels[..., control] = np.take_along_axis(beside, most, axis=-1)[..., 0]
    weight, total, square = (levels[..., i, :] for i in range(3))
    count, mean = ratio(weight**2, square), ratio(total, weight)
    return count, count * mean, count * np.maximum(mean * sizes[..., None, :], mean**2)


def _overlap(shares: FloatArray, control: int) -> tuple[FloatArray, FloatArray]:
    """Return h / π of each arm and of the control beside it, (G, K) each."""
    of_control = shares[:, [control]]
    both = (shares > 0) & (of_control > 0)
    both[:, control] = False
    total = np.where(both, shares + of_control, 1.0)
    return np.where(both, of_control / total, 0.0), np.where(both, shares / total, 0.0)


def lifts_p_value(  # noqa: PLR0913 - sums of two kinds
    numbers: IntArray,
    count: FloatArray,
    total: FloatArray,
    square: FloatArray,
    sums: FloatArray,
    *,
    control: int,
    conversion: FloatArray | float = 1.0,
) -> FloatArray:
    """Return the p-value (...,) of "no lift moved", over all looks so far and all arms.

    Args:
        numbers: (P,) ascending numbers of periods; see `period_of`.
        count: (..., P, K) decisions whose window has closed, by period and arm.
        total: (..., P, K) Σ r over them.
        square: (..., P, K) Σ r².
        sums: (..., P, 7, K) of `LiftPeriodSums`.
        control: the arm to compare with.
        conversion: (...,) the mean square of a conversion; 1 where rewards are 0 or 1.
    """
    p_value = np.ones(count.shape[:-2])
    n_lifts = max(count.shape[-1] - 1, 1)
    for look in _looks(numbers):
        rates = [a[..., look.periods, :] for a in (count, total, square)]
        time = midpoints(numbers[look.periods])
        z = _trends(time, rates, sums[..., look.periods, :, :], control, conversion)
        p_value = np.minimum(p_value, 2 * ndtr(-z.max(axis=-1)) * n_lifts / look.part)
    return p_value


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A look at the first weeks: their periods (P,) among all, and its part of `LEVEL`."""

    weeks: int
    periods: BoolArray
    part: float


def _looks(numbers: IntArray) -> list[_Look]:
    """List the looks at ascending periods (P,) that are due."""
    looks = []
    for weeks, part in _PARTS.items():
        after = number_after(weeks * _WEEK)
        first = after - 1 if is_daily(after - 1) else after  # a long period has to be complete
        periods = numbers < after
        if np.count_nonzero(periods) >= _FEWEST_PERIODS and numbers[-1] >= first:
            looks.append(_Look(weeks, periods, part))
    return looks


def _trends(
    time: FloatArray,
    rates: Sequence[FloatArray],
    sums: FloatArray,
    control: int,
    conversion: FloatArray | float,
) -> FloatArray:
    """Return |z| of the trend in each arm's lift (..., K), the lesser by both kinds of factor."""
    count, total, square = rates
    arms = arm_moments(count, total, square, conversion)
    factor, spread = _shared_factors(arms, rates, conversion)
    own, of_control = sums[..., 1:4, :], sums[..., 4:7, :]
    enough = (
        _enough(own)
        & _enough(of_control)
        & (arms.events >= FEWEST_EVENTS)
        & (arms.events[..., [control]] >= FEWEST_EVENTS)
    )
    both = (own[..., 0, :] > 0) & (of_control[..., 0, :] > 0)
    own, of_control = (np.where(both[..., None, :], s, 1.0) for s in (own, of_control))
    lifts = own[..., 1, :] / own[..., 0, :] - of_control[..., 1, :] / of_control[..., 0, :]
    exposure = [s[..., 2, :] / s[..., 0, :] ** 2 for s in (own, of_control)]
    variances = arms.variance[..., None, :], arms.variance[..., None, [control]]
    variance = sum(v * e for v, e in zip(variances, exposure, strict=True)) * spread[..., None]
    weights = np.where(both, 1 / np.maximum(variance, _TINY), 0.0)
    lift, weights = (np.swapaxes(a, -1, -2) for a in (lifts, weights))
    sizes = []
    for f in (np.ones_like(factor), factor):
        score, information = trend(lift, weights, time, f[..., None, :])
        sizes.append(np.abs(score) / np.sqrt(np.maximum(information, _TINY)))
    return np.where(enough, np.minimum(*sizes), 0.0)


def _enough(sums: FloatArray) -> BoolArray:
    """Mark arms whose decisions weigh enough: (Σ w)² / Σ w², (..., K)."""
    total = sums.sum(axis=-3)
    return total[..., 0, :] ** 2 >= _FEWEST_WEIGHTED * total[..., 2, :]


def _shared_factors(
    arms: ArmMoments, rates: Sequence[FloatArray], conversion: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Return by what all arms together were above their means, and their variances, (..., P) each.

    Both are drawn towards 1 by their own noise. The first is 1 where the means add up to no more
    than 0, since then nothing can be a multiple of them.
    """
    count, total, square = rates
    mean = arms.mean[..., None, :]
    expected, spread = (count * mean).sum(axis=-1), (count * arms.variance[..., None, :]).sum(-1)
    usable = ((expected > 0) | (count.sum(axis=-1) == 0)).all(axis=-1, keepdims=True)
    positive = np.where(usable & (expected > 0), expected, 1.0)
    raw = np.where(usable & (expected > 0), total.sum(axis=-1) / positive, 1.0)
    factor = _drawn(raw, spread / positive**2)
    around = square - 2 * mean * factor[..., None] * total + (mean * factor[..., None]) ** 2 * count
    divisor = np.where(spread > 0, spread, 1.0)
    size = np.asarray(conversion, dtype=np.float64)[..., None]
    raw_spread = np.where(spread > 0, around.sum(axis=-1) / divisor, 1.0)
    return factor, np.maximum(_drawn(raw_spread, size / divisor), _LEAST_FACTOR)


def _drawn(factors: FloatArray, noise: FloatArray) -> FloatArray:
    """Draw factors (..., P) towards 1, by their noise (..., P) beside how much they vary."""
    variation = np.maximum((factors - 1) ** 2 - noise, 0.0).mean(axis=-1, keepdims=True)
    weight = np.divide(
        variation, variation + noise, out=np.zeros_like(factors), where=variation + noise > 0
    )
    return 1 + (factors - 1) * weight
