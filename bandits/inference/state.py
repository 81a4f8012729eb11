"""Inference state: sums that a fold keeps, so that results need no log.

They never forget. A decision comes into `ratio`, and with each event so far into `events`, when its
clocks start, and into everything else when its window closes, which is when its reward is final; a
cancellation takes it out of all.
"""

from dataclasses import dataclass, fields

import msgspec

from bandits.additive import Additive, field_values
from bandits.array_types import FloatArray
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.event_sums import EventSums
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.periods import PeriodSums
from bandits.inference.sample_ratio import SampleRatio

_FORMAT = 3
GROUPS = 2  # decided for, and held out


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
        events: decisions with each event by name, from the moment that they are sent.
    """

    arms: AipwSums
    groups: AipwSums
    ratio: SampleRatio
    periods: PeriodSums
    segments: AipwSums
    lateness: LateRewardSums
    floors: FloorHistory
    events: EventSums

    @classmethod
    def zeros(cls, n_arms: int, n_segments: int) -> "InferenceState":
        """Make the sums over no decision."""
        return cls(
            AipwSums.zeros(n_arms),
            AipwSums.zeros(GROUPS),
            SampleRatio.zeros(n_arms),
            PeriodSums.zeros(n_arms),
            AipwSums.zeros(n_arms, (n_segments,)),
            LateRewardSums.zeros(n_arms),
            FloorHistory.zeros(),
            EventSums.zeros(n_arms),
        )

    def padded(self, n_arms: int) -> "InferenceState":
        """Append arms without decisions, until there are `n_arms`."""
        return InferenceState(
            self.arms.padded(n_arms),
            self.groups,
            self.ratio.padded(n_arms),
            self.periods.padded(n_arms),
            self.segments.padded(n_arms),
            self.lateness.padded(n_arms),
            self.floors,
            self.events.padded(n_arms),
        )

    def parts(self, like: "InferenceState") -> dict[str, FloatArray]:
        """Name every array, in the places that `like` has, which must have all of this one's."""
        named: dict[str, FloatArray] = {
            "periods": self.periods.spread(like.periods.numbers),
            "floors": self.floors.spread(like.floors.values),
        }
        for name in ("arms", "groups", "segments"):
            evidence: AipwSums = getattr(self, name).spread(getattr(like, name).eligible)
            named[f"{name}.moments"] = evidence.moments
            named[f"{name}.earning"] = evidence.earning
        for name, sums in (("ratio", self.ratio), ("lateness", self.lateness)):
            named |= {f"{name}.{f.name}": getattr(sums, f.name) for f in fields(sums)}
        events = self.events.parts(like.events)
        named |= {f"events.{name}": array for name, array in events.items()}
        return named

    def dump(self) -> bytes:
        """Serialise."""
        parts = [part.dump() for part in field_values(self)]
        return msgspec.msgpack.encode([_FORMAT, *parts])

    @classmethod
    def is_missing(cls, packed: bytes) -> bool:
        """Return true where nothing is kept, or an older format: then the log is summed anew."""
        return not packed or msgspec.msgpack.decode(packed)[0] < _FORMAT

    @classmethod
    def load(cls, packed: bytes) -> "InferenceState":
        """Read back what `dump` wrote.

        Raises:
            ValueError: another version of this program wrote it, in another format.
        """
        form, *parts = msgspec.msgpack.decode(packed)
        if form != _FORMAT:
            raise ValueError(f"what results rest on has format {form}, known is {_FORMAT}")
        arms, groups, ratio, periods, segments, lateness, floors, events = parts
        by_arm = AipwSums.load(arms)
        return cls(
            by_arm,
            AipwSums.load(groups),
            SampleRatio.load(ratio),
            PeriodSums.load(periods, by_arm.n_arms),
            AipwSums.load(segments),
            LateRewardSums.load(lateness),
            FloorHistory.load(floors),
            EventSums.load(events),
        )
