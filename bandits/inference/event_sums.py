"""Event sums: emails with each event by name and arm, so far and once their window is over.

Only names that occurred take room. What is closed is kept for the weighting of
`bandits.inference.aipw`, with what `AipwSums` of the same decisions has in any case left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference.aipw_sums import POWERS, AipwSums

COUNTS = 4  # of each event: emails with it, how often, Σ value and Σ value² by email
_LITTLE = "<f8"  # how arrays are stored, whatever the machine


@dataclass(frozen=True, slots=True, eq=False)
class EventValues:
    """Events of one name that n decisions had.

    Attributes:
        values: (n,) aggregated by decision; 0 is no event.
        times: (n,) how many there were.
        valued: true where the value is more than whether it happened, as an order's is.
    """

    values: FloatArray
    times: FloatArray
    valued: bool


@dataclass(frozen=True, slots=True, eq=False)
class EventSums:
    """Sums over sent decisions by name of their events; additive.

    Arms are followed by the held-out subjects, who all get the control, where there are K + 1.
    A name takes 8 (K + 1) numbers, and in each stratum 3 K, or 9 K where its events have values.

    Attributes:
        names: E of them, ascending: those that some decision has an event of.
        amounts: V of these, whose events have values.
        sent: (K + 1,) decisions.
        over: (K + 1,) those of them whose window is over.
        so_far: (E, 4, K + 1) emails with the event, events, Σ value and Σ value² of an email.
        closed: (E, 4, K + 1) the same where the window is over.
        eligible: (G, K) the strata of `happened` and `valued`, as `AipwSums` has them.
        happened: (E, G, 3, K) Σ 1{A = k} π^(−j) over closed decisions with the event that were not
            held out.
        valued: (V, G, 2, 3, K) Σ 1{A = k} R^i π^(−j) over them, i from 1, R the value.
    """

    names: tuple[str, ...]
    amounts: tuple[str, ...]
    sent: FloatArray
    over: FloatArray
    so_far: FloatArray
    closed: FloatArray
    eligible: BoolArray
    happened: FloatArray
    valued: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "EventSums":
        """Make the sums over no decision."""
        groups = np.zeros(n_arms + 1)
        return cls(
            (),
            (),
            groups,
            groups,
            np.zeros((0, COUNTS, n_arms + 1)),
            np.zeros((0, COUNTS, n_arms + 1)),
            np.zeros((0, n_arms), dtype=np.bool_),
            np.zeros((0, 0, POWERS, n_arms)),
            np.zeros((0, 0, POWERS - 1, POWERS, n_arms)),
        )

    @classmethod
    def from_sent(
        cls, groups: IntArray, events: Mapping[str, EventValues], n_arms: int
    ) -> "EventSums":
        """Sum n sent decisions, closed or not; `groups` (n,) are arms, or K where held out."""
        none = cls.zeros(n_arms)
        sent = np.bincount(groups, minlength=n_arms + 1).astype(np.float64)
        counts = _count(groups, events, n_arms)
        amounts = _amounts(events)
        sums = cls(
            tuple(sorted(events)),
            amounts,
            sent,
            none.over,
            counts,
            np.zeros_like(counts),
            none.eligible,
            np.zeros((len(events), 0, POWERS, n_arms)),
            np.zeros((len(amounts), 0, POWERS - 1, POWERS, n_arms)),
        )
        return sums.without_empty()

    @classmethod
    def from_closed(
        cls,
        eligible: BoolArray,
        strata: IntArray,
        groups: IntArray,
        propensities: FloatArray,
        events: Mapping[str, EventValues],
    ) -> "EventSums":
        """Sum n closed decisions, beside what `from_sent` sums of them.

        Args:
            eligible: (G, K) sets of arms; one may be there twice.
            strata: (n,) which of those sets each decision could choose from.
            groups: (n,) what it got, K where held out.
            propensities: (n,) the logged probability of that.
            events: by name; (n,) each.
        """
        n_sets, n_arms = eligible.shape
        over = np.bincount(groups, minlength=n_arms + 1).astype(np.float64)
        names, amounts = tuple(sorted(events)), _amounts(events)
        happened = np.zeros((len(names), n_sets, POWERS, n_arms))
        valued = np.zeros((len(amounts), n_sets, POWERS - 1, POWERS, n_arms))
        weights = 1 / propensities
        for e, name in enumerate(names):
            values = events[name].values
            rows = np.flatnonzero((values != 0) & (groups < n_arms))
            cells, values = strata[rows] * n_arms + groups[rows], values[rows]
            for j in range(POWERS):
                weight = weights[rows] ** j
                happened[e, :, j] = _total(cells, weight, (n_sets, n_arms))
                if name in amounts:
                    of_name = valued[amounts.index(name)]
                    for i in range(1, POWERS):
                        of_name[:, i - 1, j] = _total(cells, values**i * weight, (n_sets, n_arms))
        counts = _count(groups, events, n_arms)
        none, sent = np.zeros_like(counts), np.zeros(n_arms + 1)
        sums = cls(names, amounts, sent, over, none, counts, eligible, happened, valued)
        distinct = eligible if n_sets == 1 else np.unique(eligible, axis=0)
        return sums.spread(names, amounts, distinct).without_empty()

    def __add__(self, other: "EventSums") -> "EventSums":
        return self._joined(other, 1.0)

    def __sub__(self, other: "EventSums") -> "EventSums":
        return self._joined(other, -1.0)

    def _joined(self, other: "EventSums", sign: float) -> "EventSums":
        sent, over = self.sent + sign * other.sent, self.over + sign * other.over
        if not other.names:
            return replace(self, sent=sent, over=over)
        if not self.names and sign > 0:
            return replace(other, sent=sent, over=over)
        names = tuple(sorted({*self.names, *other.names}))
        amounts = tuple(sorted({*self.amounts, *other.amounts}))
        eligible = self.eligible
        if not np.array_equal(eligible, other.eligible):
            eligible = np.unique(np.concatenate([self.eligible, other.eligible]), axis=0)
        first, second = (e.spread(names, amounts, eligible) for e in (self, other))
        return EventSums(
            names,
            amounts,
            sent,
            over,
            first.so_far + sign * second.so_far,
            first.closed + sign * second.closed,
            eligible,
            first.happened + sign * second.happened,
            first.valued + sign * second.valued,
        ).without_empty()

    def spread(
        self, names: tuple[str, ...], amounts: tuple[str, ...], eligible: BoolArray
    ) -> "EventSums":
        """Give each of `names`, `amounts` and strata `eligible` a place; all there are have one.

        Strata of `self` that are the same set are merged.
        """
        if (
            names == self.names
            and amounts == self.amounts
            and np.array_equal(eligible, self.eligible)
        ):
            return self
        rows = [names.index(name) for name in self.names]
        value_rows = [amounts.index(name) for name in self.amounts]
        places = {row.tobytes(): i for i, row in enumerate(eligible)}
        columns = [places[row.tobytes()] for row in self.eligible]
        n_sets, n_arms = eligible.shape
        so_far, closed = (np.zeros((len(names), COUNTS, n_arms + 1)) for _ in range(2))
        so_far[rows], closed[rows] = self.so_far, self.closed
        happened = np.zeros((len(names), n_sets, POWERS, n_arms))
        valued = np.zeros((len(amounts), n_sets, POWERS - 1, POWERS, n_arms))
        for source, target in enumerate(columns):
            happened[rows, target] += self.happened[:, source]
            valued[value_rows, target] += self.valued[:, source]
        counts = (self.sent, self.over, so_far, closed)
        return EventSums(names, amounts, *counts, eligible, happened, valued)

    def without_empty(self) -> "EventSums":
        """Drop names and strata without an event: numbers of emails are whole, so they leave 0."""
        counted = self.so_far[:, 0] + self.closed[:, 0]
        named = np.any(counted != 0, axis=-1)
        reached = np.any(self.happened[:, :, 0] != 0, axis=(0, 2))
        if named.all() and reached.all():
            return self
        names = [name for name, kept in zip(self.names, named.tolist(), strict=True) if kept]
        return self._only(names, reached)

    def _only(self, names: Sequence[str], reached: BoolArray | None = None) -> "EventSums":
        """Keep some names, and some strata (G,), all unless given."""
        rows = [e for e, name in enumerate(self.names) if name in names]
        value_rows = [v for v, name in enumerate(self.amounts) if name in names]
        strata = np.ones(len(self.eligible), dtype=np.bool_) if reached is None else reached
        return EventSums(
            tuple(self.names[e] for e in rows),
            tuple(self.amounts[v] for v in value_rows),
            self.sent,
            self.over,
            self.so_far[rows],
            self.closed[rows],
            self.eligible[strata],
            self.happened[rows][:, strata],
            self.valued[value_rows][:, strata],
        )

    def padded(self, n_arms: int) -> "EventSums":
        """Append arms without decisions, before the held-out group, until there are `n_arms`."""
        missing = n_arms - self.eligible.shape[-1]
        if not missing:
            return self

        def grown(array: FloatArray) -> FloatArray:
            return np.insert(array, [-1] * missing, 0.0, axis=-1)

        def pad(array: Any) -> Any:
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])

        return EventSums(
            self.names,
            self.amounts,
            grown(self.sent),
            grown(self.over),
            grown(self.so_far),
            grown(self.closed),
            pad(self.eligible),
            pad(self.happened),
            pad(self.valued),
        )

    def rate_sums(self, names: Sequence[str], arms: AipwSums) -> AipwSums:
        """Return sums of the reward "it happened" over the closed decisions of `arms`.

        Args:
            names: E events, the leading axis.
            arms: sums over the same decisions; its strata are all that these have.
        """
        happened = self._named(names, (), arms.eligible).happened
        return _with_rewards(arms, np.stack([happened, happened], axis=2), happened[:, :, 0])

    def value_sums(self, names: Sequence[str], arms: AipwSums) -> AipwSums:
        """Return sums of the reward "its value" over the closed decisions of `arms`.

        Args:
            names: V events that have values, the leading axis.
            arms: sums over the same decisions; its strata are all that these have.
        """
        events = self._named(names, names, arms.eligible)
        return _with_rewards(arms, events.valued, events.happened[:, :, 0])

    def counts(self, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Return `so_far` and `closed` of events in the order of `names`, (E, 4, K + 1) each."""
        events = self._named(names, (), self.eligible)
        return events.so_far, events.closed

    def _named(
        self, names: Sequence[str], amounts: Sequence[str], eligible: BoolArray
    ) -> "EventSums":
        """Give each of `names` a place, those without events too, and leave all others out."""
        one = self._only(names)
        kept = one if amounts else replace(one, amounts=(), valued=one.valued[:0])
        return kept.spread(tuple(names), tuple(amounts), eligible)

    def parts(self, like: "EventSums") -> dict[str, FloatArray]:
        """Name every array, in the places that `like` has, which must have all of this one's."""
        every = self.spread(like.names, like.amounts, like.eligible)
        return {name: getattr(every, name) for name in _ARRAYS}

    def dump(self) -> bytes:
        """Serialise."""
        arrays = [getattr(self, name).astype(_LITTLE).tobytes() for name in _ARRAYS]
        eligible = self.eligible.astype(np.uint8).tobytes()
        head = (self.names, self.amounts, self.eligible.shape, eligible)
        return msgspec.msgpack.encode((*head, *arrays))

    @classmethod
    def load(cls, packed: bytes) -> "EventSums":
        """Read back what `dump` wrote."""
        names, amounts, shape, packed_sets, *packed_arrays = msgspec.msgpack.decode(packed)
        n_sets, n_arms = shape
        n, groups = len(names), n_arms + 1
        shapes = (
            (groups,),
            (groups,),
            (n, COUNTS, groups),
            (n, COUNTS, groups),
            (n, n_sets, POWERS, n_arms),
            (len(amounts), n_sets, POWERS - 1, POWERS, n_arms),
        )
        sent, over, so_far, closed, happened, valued = (
            np.frombuffer(array, _LITTLE).astype(np.float64).reshape(shape)
            for array, shape in zip(packed_arrays, shapes, strict=True)
        )
        eligible = np.frombuffer(packed_sets, np.uint8).astype(np.bool_).reshape(n_sets, n_arms)
        counts = (sent, over, so_far, closed)
        return cls(tuple(names), tuple(amounts), *counts, eligible, happened, valued)


_ARRAYS = ("sent", "over", "so_far", "closed", "happened", "valued")


def _count(groups: IntArray, events: Mapping[str, EventValues], n_arms: int) -> FloatArray:
    """Count events by name and group, (E, 4, K + 1)."""
    counts = np.zeros((len(events), COUNTS, n_arms + 1))
    for e, name in enumerate(sorted(events)):
        rows = np.flatnonzero(events[name].values)
        values, of_rows = events[name].values[rows], groups[rows]
        columns = (None, events[name].times[rows], values, values**2)
        for i, column in enumerate(columns):
            counts[e, i] = np.bincount(of_rows, column, n_arms + 1)
    return counts


def _amounts(events: Mapping[str, EventValues]) -> tuple[str, ...]:
    return tuple(name for name in sorted(events) if events[name].valued)


def _total(cells: IntArray, values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    return np.bincount(cells, values, shape[0] * shape[1]).astype(np.float64).reshape(shape)


def _with_rewards(arms: AipwSums, rewards: FloatArray, earning: FloatArray) -> AipwSums:
    """Put other rewards (E, G, 2, 3, K), powers from 1, in the place of those of `arms`."""
    nothing = arms.moments[:, :1]
    sends = np.broadcast_to(nothing, (len(rewards), *nothing.shape))
    return AipwSums(arms.eligible, np.concatenate([sends, rewards], axis=2), earning)
