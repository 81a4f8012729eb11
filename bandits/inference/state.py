"""Inference state: sums that a fold keeps, so that results need no log.

They never forget. A decision comes into `ratio` when its clocks start, into `late_so_far` when it
has matured, and into everything else when its window closes, which is when its reward is final; a
cancellation takes it out of all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import msgspec

from bandits.additive import Additive, field_values
from bandits.array_types import FloatArray
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.periods import PeriodSums
from bandits.inference.sample_ratio import SampleRatio

_FORMAT = 3
_FIELDS = {2: 7}  # of earlier formats that are still read: how many of today's fields each has
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
            self.lift_periods.padded(n_arms),
            self.late_so_far.padded(n_arms),
        )

    def parts(self, like: "InferenceState") -> dict[str, FloatArray]:
        """Name every array, in the places that `like` has, which must have all of this one's."""
        named: dict[str, FloatArray] = {
            "periods": self.periods.spread(like.periods.numbers),
            "floors": self.floors.spread(like.floors.values),
            "lift_periods": self.lift_periods.spread(like.lift_periods.numbers),
        }
        for name in ("arms", "groups", "segments"):
            evidence: AipwSums = getattr(self, name).spread(getattr(like, name).eligible)
            named[f"{name}.moments"] = evidence.moments
            named[f"{name}.earning"] = evidence.earning
        for name in ("ratio", "lateness", "late_so_far"):
            sums = getattr(self, name)
            named |= {f"{name}.{f.name}": getattr(sums, f.name) for f in fields(sums)}
        return named

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
        """Name the fields that format `number` had."""
        names = tuple(f.name for f in fields(cls))
        return names if number >= _FORMAT else names[: _FIELDS.get(number, 0)]

    @classmethod
    def load(cls, packed: bytes) -> "InferenceState":
        """Read back what `dump` wrote; fields that an earlier format lacks are over no decision.

        Raises:
            ValueError: another version of this program wrote it, in another format.
        """
        number, *parts = msgspec.msgpack.decode(packed)
        if number not in {_FORMAT, *_FIELDS}:
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
            partial(LiftPeriodSums.load, n_arms=n_arms),
            LateRewardSums.load,
        )
        names = cls.fields_since(number)
        values = {name: load(part) for name, load, part in zip(names, loaders, parts, strict=False)}
        return replace(cls.zeros(n_arms, len(values["segments"].moments)), **values)
