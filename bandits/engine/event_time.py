"""Event time: when an event happened, by our clock, and whether it is still in its window."""

from datetime import datetime

from bandits.engine.attribution import SKEW_SECONDS
from bandits.store.values import DecisionRef, ExperimentRecord

PlacedTime = tuple[float, bool, bool]  # of an event, whether it is late, whether it is skewed


def resolve_event_time(
    occurred_at: datetime | None, started_at: float, now: float
) -> tuple[float, bool] | None:
    """Place an event in time, by our clock; None where it is too early to be of its decision.

    Nothing happens after it is reported, so an event from the future happened now. Nobody answers
    an email before it is sent either: where our own clock was stepped back since, an event that is
    reported without a time happened at the start.

    Args:
        occurred_at: the time by the sender's clock, if it is reported.
        started_at: when the decision's clocks started, seconds since 1970.
        now: the same, by our clock.

    Returns:
        The time of the event, and whether the two clocks are further apart than is forgiven.
    """
    newest = max(now, started_at)
    if occurred_at is None:
        return newest, False
    seconds = occurred_at.timestamp()
    if seconds < started_at - SKEW_SECONDS:
        return None
    return min(seconds, newest), seconds > now + SKEW_SECONDS


class RewardClock:
    """Clock of the rewards of decisions that share a reference.

    Attributes:
        reported: place of a reward that is reported without its time; None where it is too early.
    """

    def __init__(self, record: ExperimentRecord, ref: DecisionRef, now: float) -> None:
        """Place rewards that are reported at `now`, by the server's clock."""
        closed = record.closes_at is not None and now > record.closes_at
        self._all_late = closed and not ref.shipped  # a stopped experiment's result is final
        self._window = record.configuration.experiment.reward.window_seconds
        self._started_at = ref.started_at
        self._now = now
        self.reported = self.place(None)

    def place(self, occurred_at: datetime | None) -> PlacedTime | None:
        """Place a reward by the sender's clock, if that is reported; None where it is too early."""
        if self._started_at is None:
            return None
        resolved = resolve_event_time(occurred_at, self._started_at, self._now)
        if resolved is None:
            return None
        at, skewed = resolved
        return at, self._all_late or at > self._started_at + self._window, skewed
