"""Inference state: sums that a fold keeps, so that results need no log.

They never forget. A decision comes into `ratio`, and with each event so far into `events`, when its
clocks start, into `late_so_far` when it has matured, and into everything else when its window
closes, which is when its reward is final; a cancellation takes it out of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from bandits.additive import Additive, dump_arrays, field_values, load_arrays
from bandits.array_types import FloatArray
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.clusters import GROUPS, ClusterSums
from bandits.inference.cohorts import CohortCounts
from bandits.inference.event_sums import EventSums
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.overlap import Comparisons, OverlapSums
from bandits.inference.periods import PeriodSums
from bandits.inference.recent_days import RecentDays
from bandits.inference.sample_ratio import SampleRatio

_FORMAT = 4
_OVERLAPS = ("overlap", "segment_overlap", "group_overlap", "group_segment_overlap")
# Of earlier formats that are read: how many of today's fields each has.
_FIELDS = {2: 7, 3: 14}


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut(Additive):
    """Closed decisions that fields of format 3 lack; additive.

    Their rows had been removed from the log before those fields were kept.

    Attributes:
        drawn: decisions that were not held out, a number without axes.
        held_out: the others, likewise.
    """

    drawn: FloatArray
    held_out: FloatArray

    @classmethod
    def zeros(cls) -> "LeftOut":
        """Count none."""
        return cls(np.zeros(()), np.zeros(()))

    @property
    def total(self) -> float:
        """Both together."""
        return float(self.drawn + self.held_out)

    def dump(self) -> bytes:
        """Serialise."""
        return dump_arrays(self)

    @classmethod
    def load(cls, packed: bytes) -> "LeftOut":
        """Read back what `dump` wrote."""
        return load_arrays(cls, packed)


class Compared(Struct, frozen=True, eq=False):
    """Comparisons that the results of an experiment make.

    Attributes:
        arms: of all arms and variants.
        segments: those in each segment.
        group: those for which emails of the control group may count as the control's.
        group_segments: those of these in each segment.
        n_segments: how many segments there are.
    """

    arms: Comparisons
    segments: Comparisons
    group: Comparisons
    group_segments: Comparisons
    n_segments: int

    @classmethod
    def none(cls, n_arms: int, n_segments: int) -> "Compared":
        """Make none."""
        comparisons = Comparisons.none(n_arms)
        return cls(comparisons, comparisons, comparisons, comparisons, n_segments)


@dataclass(frozen=True, slots=True, eq=False)
class InferenceState(Additive):
    """Sums over an experiment's decisions; additive. Fallbacks are in none of them.

    Attributes:
        arms: closed decisions that were not held out, by arm.
        groups: all closed decisions for which the control was eligible, as an experiment of two
            arms drawn by lot: 0 were decided for, 1 held out.
        ratio: decisions that were sent and not held out, against the probabilities of each arm.
        periods: those of `arms` by the time of sending.
        segments: those of `arms` by segment of the recipient; segments lead.
        lateness: how much of their reward came after maturity.
        floors: the minimum share that each of `arms` was made under.
        recent: those of `arms` that were sent on the last closed days, by day.
        cohorts: counts of `arms` by the time of sending and the arms that each could get.
        lift_periods: those of `arms` by the time of sending, weighted for comparison with the
            control.
        late_so_far: how much of the reward of matured decisions came after maturity, as of now.
        clusters: those of `groups` by bucket of their recipients; without a control group, none.
        left_out: closed decisions that the fields from `recent` to `clusters` lack; see `LeftOut`.
        events: decisions with each event by name, from the moment that they are sent.
        overlap: those of `arms` by comparison of arms, weighted for it.
        segment_overlap: the same by segment of the recipient; segments lead.
        group_overlap: those of `arms` and the held out, as emails of the control, likewise.
        group_segment_overlap: the same by segment.
    """

    arms: AipwSums
    groups: AipwSums
    ratio: SampleRatio
    periods: PeriodSums
    segments: AipwSums
    lateness: LateRewardSums
    floors: FloorHistory
    recent: RecentDays
    cohorts: CohortCounts
    lift_periods: LiftPeriodSums
    late_so_far: LateRewardSums
    clusters: ClusterSums
    left_out: LeftOut
    events: EventSums
    overlap: OverlapSums
    segment_overlap: OverlapSums
    group_overlap: OverlapSums
    group_segment_overlap: OverlapSums

    @classmethod
    def zeros(cls, compared: Compared) -> "InferenceState":
        """Make the sums over no decision."""
        n_arms, n_segments = compared.arms.n_arms, compared.n_segments
        return cls(
            AipwSums.zeros(n_arms),
            AipwSums.zeros(GROUPS),
            SampleRatio.zeros(n_arms),
            PeriodSums.zeros(n_arms),
            AipwSums.zeros(n_arms, (n_segments,)),
            LateRewardSums.zeros(n_arms),
            FloorHistory.zeros(),
            RecentDays.zeros(n_arms),
            CohortCounts.zeros(n_arms),
            LiftPeriodSums.zeros(n_arms),
            LateRewardSums.zeros(n_arms),
            ClusterSums.zeros(),
            LeftOut.zeros(),
            EventSums.zeros(n_arms),
            OverlapSums.zeros(compared.arms),
            OverlapSums.zeros(compared.segments, (n_segments,)),
            OverlapSums.zeros(compared.group),
            OverlapSums.zeros(compared.group_segments, (n_segments,)),
        )

    def padded(self, compared: Compared) -> "InferenceState":
        """Append arms without decisions, until there are those that are compared."""
        n_arms = compared.arms.n_arms
        return InferenceState(
            self.arms.padded(n_arms),
            self.groups,
            self.ratio.padded(n_arms),
            self.periods.padded(n_arms),
            self.segments.padded(n_arms),
            self.lateness.padded(n_arms),
            self.floors,
            self.recent.padded(n_arms),
            self.cohorts.padded(n_arms),
            self.lift_periods.padded(n_arms),
            self.late_so_far.padded(n_arms),
            self.clusters,
            self.left_out,
            self.events.padded(n_arms),
            self.overlap.padded(compared.arms),
            self.segment_overlap.padded(compared.segments),
            self.group_overlap.padded(compared.group),
            self.group_segment_overlap.padded(compared.group_segments),
        )

    def parts(self, like: "InferenceState") -> dict[str, FloatArray]:
        """Name every array, in the places that `like` has, which must have all of this one's."""
        named: dict[str, FloatArray] = {
            "periods": self.periods.spread(like.periods.numbers),
            "floors": self.floors.spread(like.floors.values),
            "cohorts": self.cohorts.spread(like.cohorts),
            "lift_periods": self.lift_periods.spread(like.lift_periods.numbers),
            "clusters": self.clusters.spread,
        }
        recent = self.recent.spread(like.recent)
        named |= {"recent.moments": recent.moments, "recent.earning": recent.earning}
        for name in ("arms", "groups", "segments"):
            evidence: AipwSums = getattr(self, name).spread(getattr(like, name).eligible)
            named[f"{name}.moments"] = evidence.moments
            named[f"{name}.earning"] = evidence.earning
        for name in ("ratio", "lateness", "late_so_far", "left_out"):
            sums = getattr(self, name)
            named |= {f"{name}.{f.name}": getattr(sums, f.name) for f in fields(sums)}
        events = self.events.parts(like.events)
        named |= {f"events.{name}": array for name, array in events.items()}
        for name in _OVERLAPS:
            sums = getattr(self, name)
            named |= {f"{name}.decisions": sums.decisions, f"{name}.sums": sums.sums}
        return named

    def restricted_to(self, names: Sequence[str]) -> "InferenceState":
        """Return the fields of these names, and all others over no decision."""
        overlaps = (getattr(self, name).comparisons for name in _OVERLAPS)
        arms, segments, group, group_segments = overlaps
        n_segments = len(self.segments.moments)
        compared = Compared(arms, segments, group, group_segments, n_segments)
        zeros = InferenceState.zeros(compared)
        return replace(zeros, **{name: getattr(self, name) for name in names})

    def since(self, day: int) -> "InferenceState":
        """Return the same sums with the `recent` days from one on."""
        return replace(self, recent=self.recent.since(day))

    def dump(self) -> bytes:
        """Serialise."""
        parts = [part.dump() for part in field_values(self)]
        return msgspec.msgpack.encode([_FORMAT, *parts])

    @classmethod
    def format_of(cls, packed: bytes) -> int:
        """Return the number of the format that a stored state is in, 0 where nothing is kept."""
        return int(msgspec.msgpack.decode(packed)[0]) if packed else 0

    @classmethod
    def is_older(cls, packed: bytes) -> bool:
        """Return true where nothing is kept, or an older format: the log is to be summed anew."""
        return cls.format_of(packed) < _FORMAT

    @classmethod
    def is_missing(cls, packed: bytes) -> bool:
        """Return true where nothing is kept, or a format too old to read any sum from."""
        return cls.format_of(packed) < min(_FIELDS)

    @classmethod
    def fields_since(cls, number: int) -> tuple[str, ...]:
        """Name the fields that format `number` had, which its sums hold for also before all are."""
        names = tuple(f.name for f in fields(cls))
        return names if number >= _FORMAT else names[: _FIELDS.get(number, 0)]

    @classmethod
    def load(cls, packed: bytes) -> "InferenceState":
        """Read back what `dump` wrote; fields that an earlier format lacks are over no decision.

        Of an earlier format, the fields that it lacks are those over no decision; where these are
        those of format 3, its decisions are `left_out` of them.

        Raises:
            ValueError: another version of this program wrote it, in another format.
        """
        number, *parts = msgspec.msgpack.decode(packed)
        if number != _FORMAT and number not in _FIELDS:
            raise ValueError(f"what results rest on has format {number}, known is {_FORMAT}")
        n_arms = AipwSums.load(parts[0]).n_arms
        loaders: tuple[Callable[[bytes], Any], ...] = (
            AipwSums.load,
            AipwSums.load,
            SampleRatio.load,
            partial(PeriodSums.load, n_arms=n_arms),
            AipwSums.load,
            LateRewardSums.load,
            FloorHistory.load,
            RecentDays.load,
            CohortCounts.load,
            partial(LiftPeriodSums.load, n_arms=n_arms),
            LateRewardSums.load,
            ClusterSums.load,
            LeftOut.load,
            EventSums.load,
            OverlapSums.load,
            OverlapSums.load,
            OverlapSums.load,
            OverlapSums.load,
        )
        names = cls.fields_since(number)
        values = {name: load(part) for name, load, part in zip(names, loaders, parts, strict=False)}
        if number == _FORMAT:
            return cls(**values)
        none = Compared.none(n_arms, len(values["segments"].moments))
        state = replace(cls.zeros(none), **values)
        if "left_out" in names:
            return state
        before = LeftOut(np.asarray(state.arms.sends.sum()), np.asarray(state.groups.sends[1]))
        return replace(state, left_out=before)
