"""Clock guard: keeps retention from removing decisions by a clock that has jumped ahead."""

import time
from collections.abc import Callable

from msgspec import Struct

from bandits.store import Store

FAR_SECONDS = 86_400.0  # a clock further ahead is doubted; retention counts in days
# A doubted clock has to go on evenly for so long; were it a day, then a server that is started anew
# every night, and records nothing, would always doubt its clock.
STEADY_SECONDS = 6 * 3600.0


class _ClockDoubt(Struct, frozen=True):
    """Doubt about a clock since `since`, when its offset and the newest record were these."""

    offset: float
    since: float
    newest: float | None


class ClockGuard:
    """Guard against a clock that has jumped ahead.

    A clock is doubted if it jumps ahead while the server runs, or if it is far ahead of the newest
    record when the server starts. That happens to a right clock, too, where the machine slept or
    no email was sent for days. So a clock that goes on evenly for `STEADY_SECONDS` is trusted
    again, unless meanwhile a record far behind it comes from a machine whose clock is right.
    """

    def __init__(self, clock: Callable[[], float], newest: Callable[[], float | None]) -> None:
        """Guard a clock.

        Args:
            clock: returns seconds since 1970.
            newest: returns the time of the newest record, None without any.
        """
        self._clock = clock
        self._newest = newest
        self._offset: float | None = None  # of the clock from `time.monotonic`
        self._doubt: _ClockDoubt | None = None

    def ahead(self) -> float:
        """Return the seconds by which a doubted clock is ahead, 0 for a trusted one."""
        now, steady = self._clock(), time.monotonic()
        offset = now - steady
        if self._offset is None:
            newest = self._newest()
            self._offset = offset if newest is None else newest - steady
        ahead = offset - self._offset
        if ahead > FAR_SECONDS and not self._is_steady(now, steady):
            return ahead
        self._offset, self._doubt = offset, None
        return 0.0

    def _is_steady(self, now: float, steady: float) -> bool:
        """Return True once a doubted clock has gone on evenly for long, by all new records."""
        doubt, newest = self._doubt, self._newest()
        behind = newest is not None and now - newest > FAR_SECONDS
        if (
            doubt is None
            or abs(now - steady - doubt.offset) > FAR_SECONDS
            or (behind and newest != doubt.newest)
        ):
            self._doubt = _ClockDoubt(now - steady, steady, newest)
            return False
        return steady - doubt.since >= STEADY_SECONDS


def newest_recorded(store: Store) -> float | None:
    """Return the time of the newest decision, creation, start or stop of any experiment."""
    times: list[float | None] = []
    for record in store.experiments.records():
        times += (record.created_at, record.started_at, record.stopped_at)
        times += (d.made_at for d in store.log.latest_decisions(record.key, limit=1))
    return max((t for t in times if t is not None), default=None)
