"""Inference state: sums that a fold keeps, so that results need no log.

They never forget. A decision comes into `ratio` when its clocks start, into `late_so_far` when it
has matured, and into everything else when its window closes, which is when its reward is final; a
cancellation takes it out of all of them.
"""

from dataclasses import dataclass, fields, replace

import msgspec

from bandits.additive import Additive, field_values
from bandits.array_types import FloatArray
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.cohorts import CohortCounts
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.periods import PeriodSums
from bandits.inference.recent_days import RecentDays
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
        recent: those of `arms` that were sent on the last closed days, by day.
        cohorts: counts of `arms` by the time of sending and the arms that each could get.
        lift_periods: those of `arms` by the time of sending, weighted for comparison with the
            control.
        late_so_far: how much of the reward of matured decisions came after maturity, as of now.
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
            RecentDays.zeros(n_arms),
            CohortCounts.zeros(n_arms),
            LiftPeriodSums.zeros(n_arms),
            LateRewardSums.zeros(n_arms),
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
            self.recent.padded(n_arms),
            self.cohorts.padded(n_arms),
            self.lift_periods.padded(n_arms),
            self.late_so_far.padded(n_arms),
        )

    def parts(self, like: "InferenceState") -> dict[str, FloatArray]:
        """Name every array, in the places that `like` has, which must have all of this one's."""
        named: dict[str, FloatArray] = {
            "periods": self.periods.spread(like.periods.numbers),
            "floors": self.floors.spread(like.floors.values),
            "cohorts": self.cohorts.spread(like.cohorts),
            "lift_periods": self.lift_periods.spread(like.lift_periods.numbers),
        }
        recent = self.recent.spread(like.recent)
        named |= {"recent.moments": recent.moments, "recent.earning": recent.earning}
        for name in ("arms", "groups", "segments"):
            evidence: AipwSums = getattr(self, name).spread(getattr(like, name).eligible)
            named[f"{name}.moments"] = evidence.moments
            named[f"{name}.earning"] = evidence.earning
        for name in ("ratio", "lateness", "late_so_far"):
            sums = getattr(self, name)
            named |= {f"{name}.{f.name}": getattr(sums, f.name) for f in fields(sums)}
        return named

    def since(self, day: int) -> "InferenceState":
        """Return the same sums with the `recent` days from one on."""
        return replace(self, recent=self.recent.since(day))

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
        (
            arms,
            groups,
            ratio,
            periods,
            segments,
            lateness,
            floors,
            recent,
            cohorts,
            lift_periods,
            so_far,
        ) = parts
        by_arm = AipwSums.load(arms)
        return cls(
            by_arm,
            AipwSums.load(groups),
            SampleRatio.load(ratio),
            PeriodSums.load(periods, by_arm.n_arms),
            AipwSums.load(segments),
            LateRewardSums.load(lateness),
            FloorHistory.load(floors),
            RecentDays.load(recent),
            CohortCounts.load(cohorts),
            LiftPeriodSums.load(lift_periods, by_arm.n_arms),
            LateRewardSums.load(so_far),
        )
