"""Period sums of rewards by arm, and the test of levels: mean rewards of arms that move in time.

Each arm is looked at by itself, since tastes that cross cancel in the sum of arms. Its mean by
period, y_t from n_t decisions, is y_t = μ + u_t + e_t with Var e_t = v / n_t. The evidence is a
Bayes factor of "u moves" to "u = 0", with the same flat prior on μ on both sides: it then rests on
y_t less the mean before t alone, so under constant means it is, up to the normal approximation, a
martingale that starts at 1, and ever reaches 1/α with probability at most α (Ville, 1939; Robbins,
1970). What may move is a mixture of three: a trend, weekdays, and days by themselves. Arms answer
independently given what was sent, so their factors multiply; where one of many arms moves, the mean
of their factors shows it sooner, so both are mixed.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import msgspec
import numpy as np

from bandits.array_types import FloatArray, IntArray, distinct_places

LEVEL = 0.02  # 1 / the evidence that is found; at 100 looks at most .008 of steady campaigns do
FEWEST_EVENTS = 20.0  # of an arm, below which the normal approximation is not trusted
_PRIOR_EVENTS = 50.0  # what the variance over all arms counts for in each arm's
# What may move, its weight, and how far: part of the mean a day, by weekday, and day by day.
_SHAPES = (("trend", 0.9, 0.008), ("weekday", 0.05, 0.1), ("day", 0.05, 0.1))
_ALL_ARMS = 0.95  # the weight of the product over arms in the mixture, the rest is the mean's
_LEAST_SCALE = 0.1  # of a reward's standard deviation: the scale of a mean that is nearly 0
_TINY = 1e-300  # stands for 0 where one divides, and the quotient is not used


@dataclass(frozen=True, slots=True, eq=False)
class ArmMoments:
    """Moments of each arm's rewards over all periods, each (..., K).

    Attributes:
        mean: mean reward.
        variance: of one reward, drawn towards that of all arms by 50 events and never below the
            arm's own: an arm that has hardly answered looks as if it did not vary.
        scale: what changes of the mean are measured in.
        events: conversions that vary as much; few where nearly all convert, too.
    """

    mean: FloatArray
    variance: FloatArray
    scale: FloatArray
    events: FloatArray


def arm_moments(
    count: FloatArray, total: FloatArray, square: FloatArray, conversion: FloatArray | float
) -> ArmMoments:
    """Sum moments over periods, (..., P, K) each.

    Args:
        count: decisions.
        total: Σ r.
        square: Σ r².
        conversion: (...,) the mean square of a conversion.
    """
    n, t, q = (a.sum(axis=-2) for a in (count, total, square))
    mean, own = _mean_and_variance(n, t, q)
    pooled = _mean_and_variance(*(a.sum(axis=-1, keepdims=True) for a in (n, t, q)))[1]
    size = np.asarray(conversion, dtype=np.float64)[..., None]
    events = np.divide(n * own, size, out=np.zeros_like(own), where=size > 0)
    drawn = (events * own + _PRIOR_EVENTS * pooled) / (events + _PRIOR_EVENTS)
    variance = np.maximum(own, drawn)
    scale = np.maximum(np.abs(mean), _LEAST_SCALE * np.sqrt(variance))
    return ArmMoments(mean, variance, scale, events)


def _mean_and_variance(
    n: FloatArray, total: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray]:
    mean = total / np.maximum(n, 1.0)
    return mean, np.maximum(square / np.maximum(n, 1.0) - mean**2, 0.0)


def levels_evidence(
    numbers: IntArray,
    count: FloatArray,
    total: FloatArray,
    square: FloatArray,
    conversion: FloatArray | float = 1.0,
) -> FloatArray:
    """Return the evidence (...,), in nats, that some arm's mean reward moved.

    Args:
        numbers: (P,) ascending numbers of periods; see `period_of`.
        count: (..., P, K) decisions whose window has closed, by period and arm.
        total: (..., P, K) Σ r over them.
        square: (..., P, K) Σ r².
        conversion: (...,) the mean square of a conversion; 1 where rewards are 0 or 1.
    """
    arms = arm_moments(count, total, square, conversion)
    y = np.swapaxes(total / np.maximum(count, 1.0), -1, -2)  # by arm, then period
    weights = np.swapaxes(count, -1, -2) / np.maximum(arms.variance, _TINY)[..., None]
    weights = np.where((arms.variance > 0)[..., None], weights, 0.0)
    factors = {
        "trend": lambda scale: trend_factor(y, weights, midpoints(numbers), scale),
        "weekday": lambda scale: _weekday_factor(y, weights, numbers, scale),
        "day": lambda scale: _own_factor(y, weights, scale),
    }
    enough = arms.events >= FEWEST_EVENTS
    mixture = []
    for shape, weight, relative in _SHAPES:
        by_arm = np.where(enough, factors[shape](relative * arms.scale), 0.0)
        product, mean = by_arm.sum(axis=-1), logmeanexp(by_arm)
        mixture += [np.log(weight * _ALL_ARMS) + product, np.log(weight * (1 - _ALL_ARMS)) + mean]
    return logsumexp(np.array(mixture), axis=0)


def logsumexp(logs: FloatArray, axis: int) -> FloatArray:
    """Return the logarithm of the sum of exp over an axis, of finite numbers.

    It is what `scipy.special.logsumexp` returns, which takes ten times as long on a few numbers.
    """
    largest = logs.max(axis=axis, keepdims=True)
    is_largest = logs == largest
    n_largest = is_largest.astype(np.float64).sum(axis=axis, keepdims=True)
    rest = np.exp(np.where(is_largest, -np.inf, logs) - largest).sum(axis=axis, keepdims=True)
    total = np.log1p(rest / n_largest) + np.log(n_largest) + largest
    return np.asarray(total.squeeze(axis=axis))


def logmeanexp(logs: FloatArray) -> FloatArray:
    """Return the logarithm of the mean of exp over the last axis."""
    return np.asarray(logsumexp(logs, axis=-1) - np.log(logs.shape[-1]))


def trend(
    y: FloatArray, weights: FloatArray, time: FloatArray, factor: FloatArray | float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return score and information of β in y_t = f_t (μ + β t) + e_t, μ free, (...,) each.

    Args:
        y: (..., P).
        weights: (..., P) 1 / Var e_t.
        time: (P,).
        factor: (..., P) f, a factor that all arms share.
    """
    f = np.broadcast_to(factor, y.shape)
    about = np.maximum((weights * f**2).sum(axis=-1, keepdims=True), _TINY)
    slope = f * (time - (weights * f**2 * time).sum(axis=-1, keepdims=True) / about)
    return (weights * slope * y).sum(axis=-1), (weights * slope**2).sum(axis=-1)


def lift_trends(  # noqa: PLR0913 - sums of three kinds
    numbers: IntArray,
    count: FloatArray,
    total: FloatArray,
    square: FloatArray,
    *,
    leader: int,
    conversion: FloatArray | float = 1.0,
) -> FloatArray:
    """Return z of the trend in how much more an arm earns than each other, (..., K).

    Of plain means by period: within one, shares and rates hardly move together.

    Args:
        numbers: (P,) ascending numbers of periods; see `period_of`.
        count: (..., P, K) decisions whose window has closed, by period and arm.
        total: (..., P, K) Σ r over them.
        square: (..., P, K) Σ r².
        leader: the arm.
        conversion: (...,) the mean square of a conversion.

    Returns:
        Below 0 where the arm falls behind; 0 for itself, and without two periods of both.
    """
    variance = arm_moments(count, total, square, conversion).variance[..., None, :]
    mean, noise = (a / np.maximum(count, 1.0) for a in (total, variance))
    lifts = np.swapaxes(mean[..., [leader]] - mean, -1, -2)
    spread = np.swapaxes(noise[..., [leader]] + noise, -1, -2)
    both = np.swapaxes((count > 0) & (count[..., [leader]] > 0), -1, -2)
    weights = np.where(both & (spread > 0), 1 / np.maximum(spread, _TINY), 0.0)
    score, information = trend(lifts, weights, midpoints(numbers))
    return np.divide(score, np.sqrt(information), out=np.zeros_like(score), where=information > 0)


def trend_factor(
    y: FloatArray, weights: FloatArray, time: FloatArray, scale: FloatArray
) -> FloatArray:
    """Return the logarithm of the Bayes factor of a trend β ~ N(0, scale²), (...,)."""
    score, information = trend(y, weights, time)
    gain = scale**2 * information
    return (scale**2 * score**2 / (1 + gain) - np.log1p(gain)) / 2


def _weekday_factor(
    y: FloatArray, weights: FloatArray, numbers: IntArray, scale: FloatArray
) -> FloatArray:
    """Return the log Bayes factor of weekdays with effects N(0, scale²) each, (...,)."""
    weekday = (numbers[:, None] % _WEEK == np.arange(_WEEK)) & (numbers < _DAILY)[:, None]
    summed = weights @ weekday.astype(np.float64)
    means = (weights * y) @ weekday.astype(np.float64) / np.maximum(summed, _TINY)
    return _own_factor(means, summed, scale)


def _own_factor(y: FloatArray, weights: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the log Bayes factor of an effect N(0, scale²) of each place by itself, (...,)."""
    gain = weights * scale[..., None] ** 2
    moving = weights / (1 + gain)
    return _restricted(y, moving) - _restricted(y, weights) - np.log1p(gain).sum(axis=-1) / 2


def _restricted(y: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the log likelihood of y about a free mean, but for Σ log weights / 2, (...,)."""
    about = np.maximum(weights.sum(axis=-1, keepdims=True), _TINY)
    mean = (weights * y).sum(axis=-1, keepdims=True) / about
    return -(np.log(about[..., 0]) + (weights * (y - mean) ** 2).sum(axis=-1)) / 2


_DAY = 86_400.0
_DAILY = 56  # days that are a period each; from then on each four weeks are
_LONG = 28
_WEEK = 7


def period_of(started_at: FloatArray, since: float) -> IntArray:
    """Number the period of each of n times, in an experiment that runs `since`: (n,).

    Days in UTC, so that weekdays can be told apart, for eight weeks; then four weeks at a time. A
    period depends on nothing but the two times, so sums can be put together in any order.
    """
    days = np.floor(started_at / _DAY) - np.floor(since / _DAY)
    days = np.maximum(days, 0.0)
    long = _DAILY + np.floor((days - _DAILY) / _LONG)
    return np.where(days < _DAILY, days, long).astype(np.int64)


def period_bounds(numbers: IntArray, since: float) -> tuple[FloatArray, FloatArray]:
    """Return start and end of numbered periods (P,), in seconds since 1970, (P,) each."""
    days = np.where(numbers < _DAILY, numbers, _DAILY + (numbers - _DAILY) * _LONG)
    starts = (np.floor(since / _DAY) + days) * _DAY
    return starts, starts + period_days(numbers) * _DAY


def period_days(numbers: IntArray) -> FloatArray:
    """Return the number of days of each period, (P,)."""
    return np.where(numbers < _DAILY, 1.0, float(_LONG))


def number_after(days: int) -> int:
    """Number the period that begins so many days after the first, by whole periods."""
    return days if days <= _DAILY else _DAILY + (days - _DAILY) // _LONG


def is_daily(number: int) -> bool:
    """Return true for a period of one day."""
    return number < _DAILY


def midpoints(numbers: IntArray) -> FloatArray:
    """Return the middle of each numbered period, in days since the first began."""
    long = _DAILY + (numbers - _DAILY) * _LONG + (_LONG - 1) / 2
    return np.where(numbers < _DAILY, numbers, long).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ByPeriod:
    """Sums of closed decisions by period and arm; additive. The first of them are counts.

    Attributes:
        numbers: (P,) ascending, those that have a decision.
        sums: (P, C, K).
    """

    numbers: IntArray
    sums: FloatArray

    N_SUMS: ClassVar[int]  # C

    @classmethod
    def zeros(cls, n_arms: int) -> Self:
        """Make the sums over no decision."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, cls.N_SUMS, n_arms)))

    def __add__(self, other: Self) -> Self:
        return self._joined(other, 1.0)

    def __sub__(self, other: Self) -> Self:
        return self._joined(other, -1.0)

    def _joined(self, other: Self, sign: float) -> Self:
        if not len(other.numbers):
            return self
        if not len(self.numbers) and sign > 0:
            return other
        numbers = np.union1d(self.numbers, other.numbers)
        sums = self.spread(numbers)
        sums[np.searchsorted(numbers, other.numbers)] += sign * other.sums
        kept = np.any(sums[:, 0] != 0, axis=-1)  # whole numbers: what is taken out leaves 0
        return type(self)(numbers[kept], sums[kept])

    def padded(self, n_arms: int) -> Self:
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - self.sums.shape[-1]
        if not missing:
            return self
        return type(self)(self.numbers, np.pad(self.sums, [(0, 0), (0, 0), (0, missing)]))

    def spread(self, numbers: IntArray) -> FloatArray:
        """Return sums in the places of these periods, which must include all there are."""
        out = np.zeros((len(numbers), *self.sums.shape[1:]))
        out[np.searchsorted(numbers, self.numbers)] = self.sums
        return out

    def dump(self) -> bytes:
        """Serialise."""
        return msgspec.msgpack.encode((self.numbers.tolist(), self.sums.tolist()))

    @classmethod
    def load(cls, packed: bytes, n_arms: int) -> Self:
        """Read back what `dump` wrote of `n_arms`."""
        numbers, sums = msgspec.msgpack.decode(packed)
        return cls(
            np.array(numbers, dtype=np.int64),
            np.array(sums, dtype=np.float64).reshape(len(numbers), cls.N_SUMS, n_arms),
        )


class PeriodSums(ByPeriod):
    """Decisions, Σ r and Σ r² by period and arm: `sums` is (P, 3, K)."""

    __slots__ = ()

    N_SUMS = 3

    @classmethod
    def from_decisions(
        cls, numbers: IntArray, arms: IntArray, rewards: FloatArray, n_arms: int
    ) -> "PeriodSums":
        """Sum n decisions: the period of each, its arm and its reward, (n,) each."""
        periods, place = distinct_places(numbers)
        cells = place * n_arms + arms
        size = len(periods) * n_arms
        sums = [np.bincount(cells, w, size) for w in (np.ones(len(arms)), rewards, rewards**2)]
        return cls(
            periods,
            np.stack(sums).astype(np.float64).reshape(3, len(periods), n_arms).swapaxes(0, 1),
        )

    def levels_evidence(self, conversion: float) -> float:
        """Return the evidence, in nats, that some arm's mean moved, by the size of a conversion."""
        if not len(self.numbers):
            return 0.0
        count, total, square = (self.sums[:, i] for i in range(self.N_SUMS))
        return float(levels_evidence(self.numbers, count, total, square, conversion))

    def lift_trends(self, leader: int, conversion: float) -> FloatArray:
        """Return z (K,) of the trend in how much more an arm earns than each other."""
        count, total, square = (self.sums[:, i] for i in range(self.N_SUMS))
        return lift_trends(self.numbers, count, total, square, leader=leader, conversion=conversion)
