"""Experiments as a store keeps them, and what was learned of them. Times are seconds since 1970."""

from typing import Literal

from msgspec import Struct

from bandits.experiment import Combination
from bandits.versions import Configuration

State = Literal["draft", "running", "paused", "stopped", "archived"]


class DataQualityCounts(Struct, frozen=True):
    """What an experiment's log was sent that did not fit, as far as folds have seen it.

    Attributes:
        clipped: context values outside their range.
        unknown: categories that are not listed.
        missing: context values that were not given.
        repeated: events that were there before.
        late: events after their decision's window.
        skewed: events told from the future, beyond what is forgiven of a clock.
        early: events before their decision was made or activated; none of them is kept.
    """

    clipped: int = 0
    unknown: int = 0
    missing: int = 0
    repeated: int = 0
    late: int = 0
    skewed: int = 0
    early: int = 0


class ExperimentRecord(Struct, frozen=True):
    """An experiment as it is stored.

    Attributes:
        shipped: the arm that a stopped experiment goes on sending to everybody, if any.
    """

    id: int
    key: str
    state: State
    salt: bytes
    configuration: Configuration
    learned_version: int
    created_at: float
    started_at: float | None = None
    stopped_at: float | None = None
    shipped: int | None = None
    mishaps: DataQualityCounts = DataQualityCounts()

    @property
    def closes_at(self) -> float | None:
        """When its result is final: once the window of the last email before the stop has closed.

        What is reported later is recorded and counts for nothing, so the result stays as it is.
        """
        if self.stopped_at is None:
            return None
        return self.stopped_at + self.configuration.experiment.reward.window_seconds

    @property
    def shipped_variants(self) -> Combination | None:
        """What it goes on sending, by slot."""
        if self.shipped is None:
            return None
        slots = [s.key for s in self.configuration.experiment.slots]
        return dict(zip(slots, self.configuration.arms[self.shipped].variants, strict=True))

    @property
    def started(self) -> bool:
        """Whether it has ever run: from then on most of it is fixed."""
        return self.started_at is not None


class Snapshot(Struct, frozen=True, eq=False):
    """What was known at one moment.

    Attributes:
        version: 1, 2, …; 0 is the empty one that is never stored.
        configuration_version: the configuration it was folded under.
        at: its reference time, never before the previous one's.
        seed: for the policy's frozen draws.
        upcoming: sends expected before the next fold.
        statistic: what `bandits.statistics.dump` wrote; empty where it is no longer kept, and can
            be made again from an audit of this version.
        tally: what `Tally.dump` wrote.
        grounds: what `Grounds.dump` wrote; kept of the newest snapshot alone, empty in others.
    """

    version: int
    configuration_version: int
    at: float
    seed: int
    upcoming: int
    statistic: bytes
    tally: bytes
    grounds: bytes = b""


class RetainedSums(Struct, frozen=True, eq=False):
    """What was learned from decisions whose rows were removed, as sums: what the log lacks.

    Attributes:
        version: the newest snapshot when rows were removed last.
        at: what the statistic refers to: its reference time.
        statistic: what `bandits.statistics.dump` wrote.
        tally: what `Tally.dump` wrote.
        grounds: what `Grounds.dump` wrote.
    """

    version: int
    at: float
    statistic: bytes
    tally: bytes
    grounds: bytes


class SnapshotPoint(Struct, frozen=True, eq=False):
    """One snapshot on a chart: its version, time and tally."""

    version: int
    at: float
    tally: bytes


class ExperimentState(Struct, frozen=True, eq=False):
    """An experiment, its newest snapshot (None before the first) and its history, of one moment."""

    record: ExperimentRecord
    snapshot: Snapshot | None
    points: list[SnapshotPoint]


class FoldBacklog(Struct, frozen=True):
    """Batches of one experiment that a fold would take in now: how many, and since when."""

    batches: int
    since: float
