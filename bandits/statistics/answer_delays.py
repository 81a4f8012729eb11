"""Answer delays: what was sent when, and how soon it was answered, by arm."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.numerics.delayed_posterior import DelayedCounts
from bandits.problem import Problem
from bandits.statistics.statistic import NOTHING, pad_arms

AGEING = 64  # snapshots a window, at most, that are made because time has passed
STEPS = 1024  # of the window: the finest that ages are known to, and the unit of the clock
_LEAST = 1 / 4096  # of the window: answers that came sooner count as of this delay
_SOON = 1e-6  # of the window: sends are at least this old
_ALIKE = 0.2  # ages whose logarithms are in one interval of this length are one group

# Buckets of sending: of 1 step for what is younger than a 64th of the window, 4 steps for what is
# younger than a quarter, and 16 for the rest. A bucket is at its number modulo its level's slots.
_LENGTHS = np.array([1, 4, 16])
_SLOTS = np.array([64, 64, 66])
_FIRST = np.array([0, 64, 128])
_LEVELS = np.repeat([0, 1, 2], _SLOTS)
_N_SLOTS = int(_SLOTS.sum())
_KEPT = 16  # buckets of the next level whose parts are kept apart
_OPEN = STEPS // 16 + 1


def _levels_of(steps: IntArray, clock: float) -> IntArray:
    """Return the level of the buckets that steps (n,) belong to; 3 where the window is over."""
    now = np.floor(clock)
    return np.select(
        [
            steps // 4 > now // 4 - _KEPT,
            steps // 16 > now // 16 - _KEPT,
            steps // 16 > clock / 16 - _OPEN,
        ],
        [0, 1, 2],
        3,
    )


def _slots_of(steps: IntArray, levels: IntArray) -> IntArray:
    """Return the slots of the buckets of steps (n,), whose levels are below 3."""
    return _FIRST[levels] + steps // _LENGTHS[levels] % _SLOTS[levels]


def _starts(clock: float) -> IntArray:
    """Return the step at which the bucket in each slot starts, (194,)."""
    newest = int(np.floor(clock)) // _LENGTHS[_LEVELS]
    behind = (newest - (np.arange(_N_SLOTS) - _FIRST[_LEVELS])) % _SLOTS[_LEVELS]
    return (newest - behind) * _LENGTHS[_LEVELS]


class SendTimes(NamedTuple):
    """Times of n decisions, in the unit of `Problem.window`.

    Attributes:
        sent_at: (..., n) when each one's clock started.
        answered_at: (..., n) when its first answer was reported; any number where there is none.
        at: the moment as of which it is told.
    """

    sent_at: FloatArray
    answered_at: FloatArray
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class AnswerDelays:
    """Sums of decisions whose reward is 0 or 1, (..., K) by arm, as of a moment.

    Sends without an answer are kept by when they were sent until their window is over, in buckets
    of a 1,024th of the window at first and of a 64th at last. It never grows.

    Attributes:
        clock: (..., 1) the moment, the same for all, in steps since time 0: 1,024 are a window.
        answered: (..., K) Σ w of answered decisions.
        delays: (..., K, 3) Σ w, Σ w log d and Σ w (log d)² of those whose delay d is known, as a
            part of the window.
        silent: (..., K, 194) Σ w of decisions without an answer whose window is open, by bucket.
        offsets: (..., K, 194) Σ w of these times the steps from their bucket's start to each.
        closed: (..., K) Σ w of decisions without an answer whose window is over.
    """

    clock: FloatArray
    answered: FloatArray
    delays: FloatArray
    silent: FloatArray
    offsets: FloatArray
    closed: FloatArray

    family: ClassVar[str] = "answer_delays"
    contextual: ClassVar[bool] = False
    invertible: ClassVar[bool] = True
    timed: ClassVar[bool] = True

    @classmethod
    def zeros(cls, problem: Problem, lead: tuple[int, ...] = ()) -> "AnswerDelays":
        """Make the statistic of no decision."""
        by_arm, ring = (
            np.zeros((*lead, problem.n_arms)),
            np.zeros((*lead, problem.n_arms, _N_SLOTS)),
        )
        delays = np.zeros((*lead, problem.n_arms, 3))
        return cls(np.zeros(1), by_arm, delays, ring, ring, by_arm)

    @classmethod
    def from_observations(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,
    ) -> "AnswerDelays":
        """Sum n decisions whose window is over, and whose delays are not known."""
        lead = arms.shape[:-1]
        (answered,) = _sums(problem.n_arms, arms, weights * rewards)
        (closed,) = _sums(problem.n_arms, arms, weights * (1 - rewards))
        zeros = cls.zeros(problem, lead)
        return cls(zeros.clock, answered, zeros.delays, zeros.silent, zeros.offsets, closed)

    @classmethod
    def from_pending(
        cls,
        problem: Problem,
        arms: IntArray,
        contexts: FloatArray,  # noqa: ARG003 - this family has no use for contexts
        weights: FloatArray,  # noqa: ARG003 - nothing is known of a send at an unknown time
    ) -> "AnswerDelays":
        """Sum nothing: without the time of sending, silence says nothing."""
        return cls.zeros(problem, arms.shape[:-1])

    @classmethod
    def from_sent(
        cls,
        problem: Problem,
        arms: IntArray,
        rewards: FloatArray,
        weights: FloatArray,
        times: SendTimes,
    ) -> "AnswerDelays":
        """Sum n decisions as they stand at a moment: arms, rewards (0 or 1), weights (..., n)."""
        clock = times.at * STEPS / problem.window
        sent = np.minimum(times.sent_at * STEPS / problem.window, clock)
        steps = np.floor(sent).astype(np.int64)
        delays = (times.answered_at - times.sent_at) / problem.window
        log_delays = np.log(np.clip(delays, _LEAST, 1.0))
        answers, silences = weights * rewards, weights * (1 - rewards)
        levels = _levels_of(steps, clock)
        in_time = levels < len(_LENGTHS)
        levels = np.where(in_time, levels, 0)
        n, first, second, closed = _sums(
            problem.n_arms,
            arms,
            answers,
            answers * log_delays,
            answers * log_delays**2,
            silences * ~in_time,
        )
        places = arms * _N_SLOTS + _slots_of(steps, levels)
        waiting = silences * in_time
        offsets_in = sent - steps // _LENGTHS[levels] * _LENGTHS[levels]
        silent, offsets = (
            total.reshape(*total.shape[:-1], problem.n_arms, _N_SLOTS)
            for total in _sums(problem.n_arms * _N_SLOTS, places, waiting, waiting * offsets_in)
        )
        delays = np.stack([n, first, second], axis=-1)
        return cls(np.array([clock]), n, delays, silent, offsets, closed)

    def aged(self, clock: float) -> "AnswerDelays":
        """Bring it to a later moment, in steps: old buckets merge, and windows close."""
        if clock <= self.moment:
            return self
        starts = _starts(self.moment)
        levels = _levels_of(starts, clock)
        if (levels == _LEVELS).all():
            return replace(self, clock=np.array([clock]))
        over = levels == len(_LENGTHS)
        slots = _slots_of(starts, np.where(over, 0, levels))
        shifts = starts - starts // _LENGTHS[levels % 3] * _LENGTHS[levels % 3]
        moved = np.zeros((_N_SLOTS, _N_SLOTS))
        moved[np.flatnonzero(~over), slots[~over]] = 1.0
        return replace(
            self,
            clock=np.array([clock]),
            silent=self.silent @ moved,
            offsets=(self.offsets + self.silent * shifts) @ moved,
            closed=self.closed + self.silent[..., over].sum(axis=-1),
        )

    def aged_to(self, problem: Problem, at: float) -> "AnswerDelays":
        """Bring it to a later moment, in the unit of `Problem.window`."""
        return self.aged(at * STEPS / problem.window)

    def __add__(self, other: "AnswerDelays") -> "AnswerDelays":
        return self._combined(other, 1.0)

    def __sub__(self, other: "AnswerDelays") -> "AnswerDelays":
        return self._combined(other, -1.0)

    def _combined(self, other: "AnswerDelays", sign: float) -> "AnswerDelays":
        clock = max(self.moment, other.moment)
        one, two = self.aged(clock), other.aged(clock)
        return AnswerDelays(
            one.clock,
            one.answered + sign * two.answered,
            one.delays + sign * two.delays,
            one.silent + sign * two.silent,
            one.offsets + sign * two.offsets,
            one.closed + sign * two.closed,
        )

    def take(self, arms: IntArray) -> "AnswerDelays":
        """Restrict to the arms at these positions."""
        return AnswerDelays(
            self.clock,
            self.answered[..., arms],
            self.delays[..., arms, :],
            self.silent[..., arms, :],
            self.offsets[..., arms, :],
            self.closed[..., arms],
        )

    def padded(self, problem: Problem) -> "AnswerDelays":
        """Append arms without decisions until there are the problem's."""
        n_arms = problem.n_arms
        return AnswerDelays(
            self.clock,
            pad_arms(self.answered, n_arms, axis=-1),
            pad_arms(self.delays, n_arms, axis=-2),
            pad_arms(self.silent, n_arms, axis=-2),
            pad_arms(self.offsets, n_arms, axis=-2),
            pad_arms(self.closed, n_arms, axis=-1),
        )

    def decayed(self, factor: float) -> "AnswerDelays":
        """Weigh all decisions by `factor`."""
        return AnswerDelays(
            self.clock,
            self.answered * factor,
            self.delays * factor,
            self.silent * factor,
            self.offsets * factor,
            self.closed * factor,
        )

    def state(self, at: tuple[int, ...]) -> "AnswerDelays":
        """Return the state at a place of the leading axes."""
        return AnswerDelays(
            self.clock,
            self.answered[at],
            self.delays[at],
            self.silent[at],
            self.offsets[at],
            self.closed[at],
        )

    @property
    def moment(self) -> float:
        """The moment as of which decisions are summed, in steps."""
        return float(self.clock.flat[0])

    @property
    def waiting(self) -> BoolArray:
        """True in states (...) where the window of some decision without an answer is open."""
        return np.asarray((self.silent > NOTHING).any(axis=(-2, -1)))

    @property
    def means(self) -> FloatArray:
        """The share answered so far, (..., K); 0 for an arm that was not sent."""
        sent = self.answered + self.closed + self.silent.sum(axis=-1)
        return np.divide(self.answered, sent, out=np.zeros(sent.shape), where=sent > NOTHING)

    def counts(self) -> DelayedCounts:
        """Return counts by age, for a state without leading axes."""
        clock = self.moment
        silent = np.where(self.silent > NOTHING, self.silent, 0.0)
        middle = np.full(silent.shape, 0.5) * _LENGTHS[_LEVELS]
        offsets = np.divide(self.offsets, silent, out=middle, where=silent > 0)
        ages = (clock - _starts(clock) - offsets) / STEPS
        log_ages = np.log(np.clip(ages, _SOON, 1.0))
        grouped, group_ages = _group(silent, log_ages)
        answered, closed = (np.maximum(a, 0.0) for a in (self.answered, self.closed))
        n = np.maximum(self.delays[..., 0], 0.0)
        delays = np.where((n > NOTHING)[..., None], self.delays, 0.0)
        return DelayedCounts(answered, delays, grouped, group_ages, closed)


def _group(silent: FloatArray, log_ages: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Put sends (K, B) of nearly the same age together: (K, G), and their mean log age."""
    groups = np.floor(log_ages / _ALIKE).astype(np.int64)
    present = np.unique(groups[silent > 0]) if silent.any() else np.zeros(1, dtype=np.int64)
    total = np.stack([(silent * (groups == g)).sum(axis=-1) for g in present], axis=-1)
    moment = np.stack([(silent * log_ages * (groups == g)).sum(axis=-1) for g in present], axis=-1)
    return total, np.divide(moment, total, out=np.full(total.shape, -1.0), where=total > 0)


def _sums(size: int, places: IntArray, *columns: FloatArray) -> list[FloatArray]:
    """Sum columns (..., n) by place, (..., size) each."""
    lead = places.shape[:-1]
    rows = int(np.prod(lead, dtype=np.int64))
    cells = (places.reshape(rows, -1) + size * np.arange(rows)[:, None]).ravel()
    sums = []
    for column in columns:
        values = np.broadcast_to(column, places.shape).ravel()
        total = np.bincount(cells, values, rows * size).astype(np.float64, copy=False)
        sums.append(total.reshape(*lead, size))
    return sums
